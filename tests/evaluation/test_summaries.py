from __future__ import annotations

import sys

import pytest

from attribution.errors import InputError
from evaluation.summaries import _scorer, best_sentences, oracle_sentences, rouge, score_summary


def test_rouge_by_hand():
    found = rouge("the cats sat", ["the cat ran away", "a dog"])
    # the and cat (by its stem) of three and four words; no pair of neighbours but `the cat`.
    assert found["rouge1"] == pytest.approx(2 * 2 / 7)
    assert found["rouge2"] == pytest.approx(2 * 1 / 5)
    assert found["rougeLsum"] == pytest.approx(2 * 2 / 7)


def test_of_several_references_the_best_counts():
    assert rouge("a b c", ["x y z", "a b c"]) == {"rouge1": 1, "rouge2": 1, "rougeLsum": 1}
    with pytest.raises(InputError, match="at least one reference"):
        rouge("a", [])


def test_oracle_takes_what_the_reference_says():
    sentences = ["red apples fall", "the sky is blue", "nothing at all", "birds sing loudly"]
    assert oracle_sentences(sentences, ["birds sing loudly . red apples fall"]) == [0, 3]
    assert oracle_sentences(sentences, ["birds sing loudly . red apples"], most=1) == [3]
    assert oracle_sentences(sentences, ["quite something else"]) == []


def test_best_sentences_are_ranked_and_cut_ones_last():
    sentences = ["a b c d", "x a b c", "k l m", "n"]
    assert best_sentences([0.1, 0.9, 0.9], sentences, 4) == [1, 2, 0, 3]
    assert best_sentences([0.8, 0.9, 0.1], sentences, 2, block_trigrams=True) == [1, 2]


def test_a_summary_is_judged_by_references_and_by_the_oracle():
    sentences, references = ["one two", "three four", "five six"], ["five six"]
    found = score_summary([0.5, 0.9, 0.7], sentences, references, [2])
    assert found.hit == 0
    assert found.reciprocal_rank == 1 / 2
    assert found.rouge["rouge1"] == 0
    right = score_summary([0.5, 0.1, 0.7], sentences, references, [0, 2])
    assert (right.hit, right.reciprocal_rank, right.rouge["rougeLsum"]) == (1, 1, 1)
    with pytest.raises(InputError, match="has none"):
        score_summary([1.0], ["a"], ["a"], [])


def test_without_the_package_the_way_to_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    _scorer.cache_clear()
    with pytest.raises(InputError, match=r"pip install 'headlight-xai\[summaries\]'"):
        rouge("a", ["a"])
