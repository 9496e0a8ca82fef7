"""Counts of parts add up to the counts of the whole."""

from __future__ import annotations

from functools import reduce
from operator import add

import pytest
import torch

from attribution.errors import InputError
from attribution.heads import positional_heads, syntactic_heads
from attribution.heads.arcs import count_arcs
from attribution.heads.offsets import OffsetCounts, count_positional
from attribution.heads.positional import positional_scores
from attribution.heads.syntactic import syntactic_scores


def assert_equal(found, expected):
    assert found.count == expected.count
    assert found.skipped == expected.skipped
    assert found.baseline == pytest.approx(expected.baseline, nan_ok=True, abs=1e-12)
    for role, scores in expected.scores.items():
        torch.testing.assert_close(found.scores[role], scores, rtol=0, atol=1e-12)
        assert torch.equal(found.selected[role], expected.selected[role]), role


def arcs_of(explainer, sentences, relations=("nsubj", "amod")):
    return reduce(add, (count_arcs(explainer.adapter, [one], relations) for one in sentences))


def test_arcs_counted_sentence_by_sentence(tiny, treebank):
    relations = {"relations": ("amod", "nsubj"), "min_count": 3, "margin": -0.5}
    expected = syntactic_heads(tiny, treebank, report=treebank[:2], **relations)
    found = syntactic_scores(arcs_of(tiny, treebank), arcs_of(tiny, treebank[:2]), **relations)
    assert_equal(found, expected)
    assert all(torch.equal(found.report[role], expected.report[role]) for role in expected.report)
    assert list(found.scores) == list(expected.scores)
    assert expected.mask().any()


def test_offsets_of_texts_of_different_length(fixed_offsets):
    explainer = fixed_offsets(-1, 2)
    batches = [{"input_ids": torch.full((20, n), 5), "attention_mask": torch.ones(20, n).long()} for n in (3, 9, 6)]
    parts = [count_positional(explainer.adapter, [batch]) for batch in batches]
    for order in (parts, parts[::-1]):
        assert_equal(positional_scores(reduce(add, order)), positional_heads(explainer, batches))


def test_a_part_without_arcs_adds_nothing_and_all_without_are_an_error(tiny, treebank):
    whole = arcs_of(tiny, treebank, ("obj",))  # the first sentence has none
    assert whole.arcs.tolist() == [2]
    assert whole.sentences == 3
    nothing = arcs_of(tiny, treebank, ("iobj",))
    with pytest.raises(
        InputError, match=r"heads.relations=iobj cannot .* treebank of 3 sentences .* are: amod, nsubj, root"
    ):
        syntactic_scores(nothing, relations=["iobj"])
    with pytest.raises(InputError, match="of 3 sentences"):  # nor may the treebank that reports have none
        syntactic_scores(arcs_of(tiny, treebank, ("iobj", "obj")), nothing, relations=["iobj"])


def test_only_equal_relations_add_up(tiny, treebank):
    with pytest.raises(ValueError, match="do not add up"):
        arcs_of(tiny, treebank, ("obj",)) + arcs_of(tiny, treebank, ("amod",))


def test_nothing_counted_is_an_error():
    with pytest.raises(InputError, match="no text"):
        positional_scores(OffsetCounts.none(2, 3))
