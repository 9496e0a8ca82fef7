from __future__ import annotations

import pytest
import torch

from attribution.errors import InputError
from attribution.patterns import Arcs, Tokens, Vocabulary, evaluate
from attribution.patterns.predicates import read_predicate

TEXT = '[CLS] The cat saw the cat . " 3 . 5 cats saw [SEP] cat . [SEP] [PAD]'


@pytest.fixture
def tokens(tokenizer):
    ids = torch.tensor([tokenizer.convert_tokens_to_ids(TEXT.split())])
    return Tokens(ids, ids != 0, Vocabulary.of(tokenizer))


def pairs(tokens, predicate):
    """(query, key) where a predicate holds."""
    return {(i, j) for _, _, i, j in evaluate([read_predicate(predicate)], tokens).nonzero().tolist()}


def both(*members):
    return {(i, j) for i in members for j in members}


def test_same_token_by_hand(tokens):
    cats, saws, stops = both(2, 5, 14), both(3, 12), both(6, 9, 15)
    others = both(13, 16) | {(7, 7), (8, 8), (10, 10), (11, 11), (0, 0), (1, 1), (4, 4)}
    same = cats | saws | stops | others
    assert pairs(tokens, {"same_token": {"exclude_self": False}}) == same
    different = {(i, j) for i, j in same if i != j}
    assert pairs(tokens, {"same_token": {}}) == different
    assert pairs(tokens, {"same_token": {"casefold": True}}) == different | {(1, 4), (4, 1)}
    lettered = pairs(tokens, {"same_token": {"exclude_types": ["special", "non_alpha"]}})
    assert lettered == {(i, j) for i, j in cats | saws if i != j}


def test_offsets_are_key_minus_query(tokens):
    assert pairs(tokens, {"offset": -1}) == {(i, i - 1) for i in range(1, 17)}
    assert pairs(tokens, {"offset": 1}) == {(i, i + 1) for i in range(16)}
    band = {(i, j) for i in range(17) for j in range(17) if -3 <= j - i <= -1}
    assert pairs(tokens, {"offset": [-3, -1]}) == band


def test_sentences_end_at_full_stops_and_what_closes_them(tokens):
    # `The cat saw the cat . "` | `3 . 5 cats saw` (a full stop between numbers ends nothing) | `cat .`
    expected = both(*range(1, 8)) | both(*range(8, 13)) | both(14, 15)
    assert pairs(tokens, {"same_segment": "sentence"}) == expected


def test_blocks_and_texts(tokens):
    assert pairs(tokens, {"same_segment": "block"}) == both(*range(14))
    assert pairs(tokens, {"same_segment": "text"}) == both(*range(13)) | both(13, 14, 15, 16)


def test_several_blocks_in_a_row(tokenizer):
    text = "the [CLS] cat [SEP] [CLS] dog [SEP] a"
    ids = torch.tensor([tokenizer.convert_tokens_to_ids(text.split())])
    tokens = Tokens(ids, ids != 0, Vocabulary.of(tokenizer))
    assert pairs(tokens, {"same_segment": "block"}) == both(1, 2, 3) | both(4, 5, 6)


def test_classes_of_tokens(tokens):
    real = range(17)
    assert pairs(tokens, {"query": "first"}) == {(0, j) for j in real}
    assert pairs(tokens, {"key": "separator"}) == {(i, j) for i in real for j in (13, 16)}
    assert {j for _, j in pairs(tokens, {"key": "punctuation"})} == {6, 7, 9, 15}
    assert {j for _, j in pairs(tokens, {"key": "non_alpha"})} == {0, 6, 7, 8, 9, 10, 13, 15, 16}
    assert {j for _, j in pairs(tokens, {"key": "special"})} == {0, 13, 16}


def test_and_or_not_are_sets(tokens):
    near, stop = pairs(tokens, {"offset": [-2, 2]}), pairs(tokens, {"key": "punctuation"})
    parts = [{"offset": [-2, 2]}, {"key": "punctuation"}]
    assert pairs(tokens, {"and": parts}) == near & stop
    assert pairs(tokens, {"or": parts}) == near | stop
    assert pairs(tokens, {"not": parts[0]}) == both(*range(17)) - near


def test_dependencies_follow_arcs_of_words():
    # Word 0 has two tokens and depends on word 1 as nsubj; word 2 is an obj of word 1; tokens 0 and 5 are special.
    arcs = Arcs(
        *torch.tensor([[[-1, 0, 0, 1, 2, -1]], [[-1, 1, 1, -1, 1, -1]], [[-1, 0, 0, -1, 1, -1]]]), ["nsubj", "obj"]
    )
    ids = torch.ones(1, 6, dtype=torch.long)
    tokens = Tokens(ids, ids > 0, arcs=arcs)
    up = {"dependency": {"relation": "nsubj"}}
    assert pairs(tokens, up) == {(1, 3), (2, 3)}
    assert pairs(tokens, {"dependency": {"relation": "nsubj", "direction": "head->dep"}}) == {(3, 1), (3, 2)}
    assert pairs(tokens, {"dependency": {"relation": "obj"}}) == {(4, 3)}
    assert pairs(tokens, {"dependency": {"relation": "amod"}}) == set()


def test_decoders_see_nothing_later(tokens):
    causal = Tokens(tokens.ids, tokens.real, tokens.vocabulary, causal=True)
    assert pairs(causal, {"offset": [-1, 1]}) == {(i, j) for i in range(17) for j in (i - 1, i) if j >= 0}
    assert pairs(causal, {"offset": 1}) == set()


@pytest.mark.parametrize(
    ("pred", "ahead"),
    [
        ({"offset": 1}, True),
        ({"offset": [0, 2]}, False),
        ({"and": [{"offset": 2}, {"key": "first"}]}, True),
        ({"or": [{"offset": 2}, {"key": "first"}]}, False),
        ({"not": {"offset": 2}}, False),
    ],
)
def test_what_can_only_hold_for_later_tokens(pred, ahead):
    assert read_predicate(pred).ahead is ahead


def test_padding_changes_nothing_on_either_side(tokens):
    everything = [
        {"same_token": {"casefold": True}}, {"same_segment": "sentence"}, {"same_segment": "block"},
        {"offset": [-2, 1]}, {"same_segment": "text"}, {"not": {"key": "punctuation"}},
    ]  # fmt: skip
    predicates = [read_predicate(each) for each in everything]
    alone = evaluate(predicates, Tokens(tokens.ids[:, :17], tokens.real[:, :17], tokens.vocabulary))
    for left, right in ((0, 3), (4, 0)):
        ids = torch.nn.functional.pad(tokens.ids[:, :17], (left, right))
        found = evaluate(predicates, Tokens(ids, ids != 0, tokens.vocabulary))
        assert torch.equal(found[..., left : left + 17, left : left + 17], alone)
        assert found.sum() == alone.sum()


def test_what_is_not_there_is_asked_for():
    ids = torch.ones(1, 3, dtype=torch.long)
    with pytest.raises(InputError, match="same_token needs the spellings"):
        evaluate([read_predicate({"same_token": {"casefold": True}})], Tokens(ids, ids > 0))
    with pytest.raises(InputError, match="dependency nsubj needs trees"):
        evaluate([read_predicate({"dependency": {"relation": "nsubj"}})], Tokens(ids, ids > 0))
    with pytest.raises(InputError, match="the model has none"):
        Vocabulary.of(None)
