from __future__ import annotations

import re

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from attribution.errors import InputError
from attribution.words import Word, aggregate, join_fields, sentence_ids, token_word_ids, words_of

TEXT = "An unhappy cat, isn't it?"
CORPUS = [TEXT, "an unhappy dog and a happy cat", "it isn't a cat", "is it an unhappy cat?"]


def trained(model, trainer, pre_tokenizer) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def word_piece() -> Tokenizer:
    trainer = trainers.WordPieceTrainer(vocab_size=40, special_tokens=["[UNK]"])
    return trained(models.WordPiece(unk_token="[UNK]"), trainer, pre_tokenizers.BertPreTokenizer())


def byte_level(trim: bool) -> Tokenizer:
    trainer = trainers.BpeTrainer(vocab_size=262, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=trim)
    return trained(models.BPE(), trainer, pre_tokenizer)


def sentence_piece(split: bool) -> Tokenizer:
    pieces = ["<unk>", "▁", "▁An", "▁un", "happy", "▁cat", ",", "▁is", "n", "'", "t", "▁it", "?"]
    tokenizer = Tokenizer(models.Unigram([(piece, -len(piece) / 9) for piece in pieces], unk_id=0))
    if split:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return tokenizer


SPACED = ["An", "unhappy", "cat,", "isn't", "it?"]
TOKENIZERS = {
    "WordPiece": (word_piece, ["An", "unhappy", "cat", ",", "isn", "'", "t", "it", "?"]),
    "byte-level BPE": (lambda: byte_level(False), ["An", "unhappy", "cat", ",", "isn", "'t", "it", "?"]),
    "byte-level BPE, trimmed": (lambda: byte_level(True), ["An", "unhappy", "cat", ",", "isn", "'t", "it", "?"]),
    "SentencePiece": (lambda: sentence_piece(True), SPACED),
    "SentencePiece without words": (lambda: sentence_piece(False), SPACED),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_words_of_each_kind_of_tokenizer(kind):
    build, expected = TOKENIZERS[kind]
    encoding = build().encode(TEXT)
    ids = token_word_ids(encoding.word_ids, encoding.offsets, TEXT)
    words = words_of(ids, encoding.offsets, TEXT)
    assert [word.text for word in words] == expected
    assert all(TEXT[word.start : word.end] == word.text for word in words)
    assert [position for word in words for position in word.tokens] == list(range(len(ids)))
    assert any(len(word.tokens) > 1 for word in words)


def test_special_tokens_belong_to_no_word():
    ids = token_word_ids([None, 0, 0, 1, None], [(0, 0), (0, 2), (2, 5), (5, 9), (0, 0)], "crazy day")
    assert ids == [-1, 0, 0, 1, -1]
    assert words_of(ids, [(0, 0), (0, 2), (2, 5), (5, 9), (0, 0)], "crazy day") == [
        Word("crazy", 0, 5, (1, 2)),
        Word("day", 6, 9, (3,)),
    ]


def test_one_word_and_no_words_stay():
    assert token_word_ids([None, 0, 0, None], [(0, 0), (0, 2), (2, 5), (0, 0)], "crazy") == [-1, 0, 0, -1]
    assert token_word_ids([None, None], [(0, 0), (0, 0)], "") == [-1, -1]
    assert words_of([-1, -1], [(0, 0), (0, 0)], "") == []


SCORES = torch.tensor([[9.0, 1.0, -3.0, 2.0, 9.0], [9.0, -1.0, 5.0, -5.0, 7.0]], dtype=torch.double)
WORDS = torch.tensor([[-1, 0, 0, 1, -1], [-1, 0, 1, 1, 2]])


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("sum", [[-2, 2, 0], [-1, 0, 7]]),
        ("mean", [[-1, 2, 0], [-1, 0, 7]]),
        ("max", [[1, 2, 0], [-1, 5, 7]]),
        ("signed_max", [[-3, 2, 0], [-1, 5, 7]]),
    ],
)
def test_aggregate(how, expected):
    assert aggregate(SCORES, WORDS, how).tolist() == expected


def test_aggregate_keeps_totals_leading_dimensions_and_dtype():
    several = torch.stack([SCORES, 2 * SCORES], dim=1).float()  # [B, T, N]
    summed = aggregate(several, WORDS[:, None])
    assert summed.shape == (2, 2, 3)
    assert summed.dtype == torch.float32
    torch.testing.assert_close(summed.sum(-1), (several * (WORDS >= 0)[:, None]).sum(-1))


def test_aggregate_without_words_and_with_an_unknown_reduction():
    assert aggregate(SCORES, torch.full_like(WORDS, -1)).shape == (2, 0)
    with pytest.raises(InputError, match=r"aggregation=median .* sum, mean, max, signed_max"):
        aggregate(SCORES, WORDS, "median")


def test_second_text_continues_the_ids_of_the_first():
    words = torch.tensor([[-1, 0, 0, 1, -1, 0, 1, -1], [-1, 0, -1, 0, 1, 1, -1, -1]])
    fields = torch.tensor([[-1, 0, 0, 0, -1, 1, 1, -1], [-1, 0, -1, 1, 1, 1, -1, -1]])
    assert join_fields(words, fields).tolist() == [[-1, 0, 0, 1, -1, 2, 3, -1], [-1, 0, -1, 1, 2, 2, -1, -1]]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It rains. Stay in!", ["It rains.", "Stay in!"]),
        ("No end here", ["No end here"]),
        ("3.5 of 5... 'Fine.' she said?  Yes", ["3.5 of 5...", "'Fine.'", "she said?", "Yes"]),
        ("one\ntwo", ["one", "two"]),
    ],
)
def test_sentences_end_at_stops_before_spaces_and_at_lines(text, sentences):
    offsets = [(m.start(), m.end()) for m in re.finditer(r"\S", text)]
    found = sentence_ids([0] * len(offsets), offsets, (text, None))
    groups: dict[int, str] = {}
    for sentence, (start, end) in zip(found, offsets, strict=True):
        groups[sentence] = groups.get(sentence, "") + text[start:end]
    assert list(groups.values()) == [sentence.replace(" ", "") for sentence in sentences]


def test_sentences_of_a_pair_are_numbered_on_and_special_tokens_have_none():
    offsets = [(0, 0), (0, 2), (2, 3), (0, 0), (0, 1), (0, 0)]
    found = sentence_ids([-1, 0, 0, -1, 1, -1], offsets, ("Hi.", "B"))
    assert [s < 0 for s in found] == [True, False, False, True, False, True]
    assert found[1] == found[2] < found[4]
