"""The finders on trees with planted heads: found completely, and position is not called syntax."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from planted import OneTokenAWord, at, even, follower, leaning, noisy, planted

from attribution import InputError
from attribution.heads import every_relation, positional_heads, shuffled_trees, syntactic_heads
from pipeline.data.grammar import grammar_treebank
from pipeline.data.treebanks import load_treebank

RELATIONS = ("nsubj", "obj", "amod", "advmod")


@pytest.fixture(scope="module")
def grammar():
    return grammar_treebank(400, 0)


def ewt():
    if "HEADLIGHT_DATA" not in os.environ:
        pytest.skip("HEADLIGHT_DATA is not set")
    sentences = load_treebank(Path(os.environ["HEADLIGHT_DATA"], "ud_ewt", "en_ewt-ud-dev.conllu"))
    return [sentence for sentence in sentences if 5 <= len(sentence.words) <= 60]


def planted_heads(treebank):
    """obj dep->head, nsubj head->dep, an offset, noise."""
    tokenizer = OneTokenAWord(treebank)
    generator = torch.Generator().manual_seed(7)
    return planted(
        follower(tokenizer, "obj", "dep->head"),
        follower(tokenizer, "nsubj", "head->dep"),
        leaning(-2),
        lambda ids: noisy(generator, ids),
        tokenizer=tokenizer,
    )


def score(found, relation, direction, head):
    return float(found.scores[f"syntactic:{relation}:{direction}"][0, head])


@pytest.mark.parametrize("reading", ["row", "column"])
def test_planted_syntactic_heads_are_found_completely_and_alone(grammar, reading):
    sentences = {sentence.text: sentence for sentence in grammar}  # each text once: the text says which tree it has
    found = syntactic_heads(planted_heads(list(sentences.values())), list(sentences.values()), reading=reading)
    assert score(found, "obj", "dep->head", 0) == 1
    assert score(found, "nsubj", "head->dep", 1) == 1
    assert found.mask("syntactic:obj:dep->head").tolist() == [[True, False, False, False]]
    assert found.mask("syntactic:nsubj:head->dep").tolist() == [[False, True, False, False]]
    for relation in RELATIONS:
        for direction in ("dep->head", "head->dep"):
            for head in (0, 1):
                own = (relation, direction) == (("obj", "dep->head"), ("nsubj", "head->dep"))[head]
                assert own or score(found, relation, direction, head) < 0.45


@pytest.mark.realdata
@pytest.mark.slow
def test_planted_heads_on_ud_english_ewt():
    treebank = ewt()
    explainer = planted_heads(treebank)
    assert len(treebank) == 1533
    found = syntactic_heads(explainer, treebank)
    assert score(found, "obj", "dep->head", 0) == 1
    assert max(score(found, relation, "dep->head", 0) for relation in ("nsubj", "amod", "advmod")) < 0.12
    assert score(found, "obj", "head->dep", 0) < 0.12
    assert score(found, "nsubj", "head->dep", 1) == 1
    assert score(found, "nsubj", "dep->head", 1) < 0.12
    assert max(score(found, r, "dep->head", 3) for r in RELATIONS) < 0.12
    # The planted offset scores what the baseline is, and is no syntactic head.
    assert score(found, "obj", "dep->head", 2) == pytest.approx(found.baseline["syntactic:obj:dep->head"], abs=0.01)
    assert found.mask("syntactic").tolist() == [[True, True, False, False]]
    column = syntactic_heads(explainer, treebank, reading="column")
    assert score(column, "nsubj", "head->dep", 1) == 1


def test_planted_offset_is_positional_and_not_syntactic(grammar):
    tokenizer = OneTokenAWord(list({sentence.text: sentence for sentence in grammar}.values()))
    explainer = planted(*(leaning(offset) for offset in (-3, -2, -1, 0, 1, 2, 3)), even, tokenizer=tokenizer)
    assert not syntactic_heads(explainer, tokenizer.treebank, relations=every_relation(tokenizer.treebank)).mask().any()
    explainer = planted(*(at(offset) for offset in (-3, -2, -1, 0, 1, 2, 3)), even, tokenizer=tokenizer)
    found = positional_heads(explainer, [batch(tokenizer)], threshold=0.9)
    for head, offset in enumerate((-3, -2, -1, 0, 1, 2, 3)):
        assert found.best[f"positional:{offset:+d}"] == (0, head, 1.0)
    assert found.mask()[0].tolist() == [True] * 7 + [False]


def batch(tokenizer):
    encoded = tokenizer([sentence.text for sentence in tokenizer.treebank])
    width = max(map(len, encoded["input_ids"]))
    columns = {name: encoded[name] for name in ("input_ids", "attention_mask")}
    return {name: torch.tensor([row + [0] * (width - len(row)) for row in rows]) for name, rows in columns.items()}


def test_shuffled_trees_keep_positions_and_lose_syntax(grammar):
    treebank = list({sentence.text: sentence for sentence in grammar}.values())
    other = shuffled_trees(treebank, seed=1)
    assert [sentence[0] for sentence in other] == [s.text for s in treebank if s.text in {o[0] for o in other}]
    words = {s.text: s.words for s in treebank}
    assert all(words[text] == own and len(own) == len(heads) == len(names) for text, own, heads, names in other)
    assert len(other) > 0.9 * len(treebank)
    explainer = planted_heads(treebank)
    found = syntactic_heads(explainer, other)
    assert score(found, "nsubj", "head->dep", 1) < 0.7
    assert score(found, "obj", "dep->head", 2) == pytest.approx(found.baseline["syntactic:obj:dep->head"], abs=0.02)
    assert shuffled_trees(treebank, seed=1) == other
    assert shuffled_trees(treebank, seed=2) != other


def test_no_sentence_keeps_its_own_tree():
    treebank = [(str(i), ["a", "b"], [0, 1], [str(i), "x"]) for i in range(9)] + [("lonely", ["a"], [0], ["root"])]
    other = shuffled_trees(treebank)
    assert len(other) == 9
    assert all(text != names[0] for text, _, _, names in other)
    assert sorted(names[0] for *_, names in other) == [str(i) for i in range(9)]


def test_every_relation_with_enough_arcs():
    trees = [
        ("t", ["a", "b", "c", "d"], [2, 0, 2, 2], ["nsubj", "root", "obj", "punct"]),
        ("t", ["a", "b", "c", "d"], [2, 0, 2, 2], ["nsubj:pass", "root", "obl", "punct"]),
    ]
    assert every_relation(trees, min_count=1) == ["nsubj*", "nsubj", "nsubj:pass", "obj", "obl"]
    assert every_relation(trees, min_count=2) == ["nsubj*"]
    assert every_relation(trees * 60) == ["nsubj*"]


def test_subtypes_together_are_the_sum_of_each(tiny):
    from test_syntactic import generated

    treebank = list(generated(40, seed=5))
    found = syntactic_heads(tiny, treebank, relations=["nsubj", "nsubj:pass", "nsubj*"])
    for direction in ("dep->head", "head->dep"):
        each = [f"syntactic:{name}:{direction}" for name in ("nsubj", "nsubj:pass", "nsubj*")]
        hits = [found.scores[role] * found.count[role] for role in each]
        assert found.count[each[0]] + found.count[each[1]] == found.count[each[2]]
        torch.testing.assert_close(hits[0] + hits[1], hits[2])


def test_column_reading_equals_a_loop(tiny):
    from test_syntactic import generated

    tokenizer = tiny.adapter.tokenizer
    treebank = [s for s in generated(400, seed=6) if len(tokenizer(s[0])["input_ids"]) == len(s[1]) + 2]
    found = syntactic_heads(tiny, treebank, relations=["obj"], reading="column")
    for direction in ("dep->head", "head->dep"):
        hits, arcs = torch.zeros(2, 3, dtype=torch.float64), 0
        for text, _, heads, names in treebank:
            ids = torch.tensor([tokenizer(text)["input_ids"]])
            maps = torch.stack(tiny.adapter.model(ids, output_attentions=True).attentions)[:, 0, :, 1:-1, 1:-1]
            for dependent, (head, name) in enumerate(zip(heads, names, strict=True)):
                if name == "obj" and head:
                    here, there = (dependent, head - 1) if direction == "dep->head" else (head - 1, dependent)
                    column = maps[..., there].detach().clone()
                    column[..., there] = -1
                    hits += column.argmax(-1) == here
                    arcs += 1
        assert arcs == found.count[f"syntactic:obj:{direction}"] > 10
        torch.testing.assert_close(found.scores[f"syntactic:obj:{direction}"], hits / arcs)


def test_columns_are_of_words(tiny, treebank):
    with pytest.raises(InputError, match="reading=column argmax=tokens"):
        syntactic_heads(tiny, treebank, reading="column", argmax="tokens")
