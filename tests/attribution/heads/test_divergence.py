"""Distances between heads by hand and by a loop, and the clusters of planted ones."""

from __future__ import annotations

import math

import pytest
import torch
from planted import at, even, planted, to
from test_attention_roles import TOKENIZER, some, texts
from tiny_models import tiny_model

from attribution import Explainer, InputError
from attribution.heads import head_distances


def test_heads_that_never_meet_are_ln_2_apart():
    explainer = planted(at(0), at(0), to(4), even, tokenizer=TOKENIZER)
    found = head_distances(explainer, [texts([1, 5, 6, 4, 2])]).matrix
    assert found.diagonal().abs().max() == 0
    assert found[0, 1] == pytest.approx(0, abs=1e-12)
    # Of five rows one looks at itself both times; the others share nothing but the smoothing.
    assert found[0, 2] == pytest.approx(0.8 * math.log(2), abs=5e-3)
    assert torch.equal(found, found.T)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_distances_equal_a_loop_whatever_the_batches(name):
    explainer, rows = Explainer(tiny_model(name)), some(5)
    whole = head_distances(explainer, [texts(*rows)])
    parts = head_distances(explainer, [texts(*rows[:2], width=20, side="left"), texts(*rows[2:])])
    torch.testing.assert_close(parts.matrix, whole.matrix, rtol=0, atol=1e-12)
    expected = torch.zeros(12, 12, dtype=torch.float64)
    for tokens in rows:
        maps = explainer.adapter.attentions(inputs_of(tokens))
        each = torch.cat(maps, 1)[0]
        for a in range(12):
            for b in range(12):
                values = [divergence(each[a, i], each[b, i], i, name == "gpt2") for i in range(len(tokens))]
                expected[a, b] += sum(values) / len(tokens) / len(rows)
    torch.testing.assert_close(whole.matrix, expected, rtol=0, atol=1e-10)


def divergence(first, second, row, causal):
    keys = row + 1 if causal else len(first)
    p, q = ((0.999 * each[:keys] + 0.001 / keys).tolist() for each in (first, second))
    m = [(x + y) / 2 for x, y in zip(p, q, strict=True)]
    to_mean = [sum(x * math.log(x / y) for x, y in zip(each, m, strict=True)) for each in (p, q)]
    return sum(to_mean) / 2


def inputs_of(tokens):
    from attribution.model.inputs import Inputs

    return Inputs.of(torch.tensor([tokens]))


def test_heads_of_one_kind_fall_into_one_cluster():
    explainer = planted(at(-1), at(1), at(-1), at(1), even, tokenizer=TOKENIZER)
    found = head_distances(explainer, [texts(*some(6))])
    groups = found.clusters(3)[0].tolist()
    assert groups[0] == groups[2]
    assert groups[1] == groups[3]
    assert len(set(groups)) == 3
    plane = found.coordinates()
    assert plane.shape == (1, 5, 2)
    torch.testing.assert_close(plane[0, 0], plane[0, 2])
    # Of two kinds of heads a line is enough, and it keeps their distance.
    two = head_distances(planted(at(-1), at(1), tokenizer=TOKENIZER), [texts(*some(6))])
    places = two.coordinates()[0]
    assert float((places[0] - places[1]).norm()) == pytest.approx(float(two.matrix[0, 1]), rel=1e-6)


def test_there_has_to_be_text():
    with pytest.raises(InputError, match="give at least one batch"):
        head_distances(planted(even), [])
