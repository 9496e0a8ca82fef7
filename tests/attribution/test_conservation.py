"""The summary of what a method conserves, on numbers with known answers and on models."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_models import tiny_model

from attribution import Explainer
from attribution.conservation import FACTS, conservation


def facts_of(explained, relevance, biases=None, positions=None):
    nothing = [0.0] * len(explained)
    return dict(zip(FACTS, (explained, relevance, biases or nothing, positions or nothing), strict=True))


def test_half_of_everything():
    found = conservation(facts_of([2.0, -4.0, 6.0], [1.0, -2.0, 3.0], [0.5, -1.0, 1.5], [0.0, 0.0, 2.0]))
    assert (found.n, found.slope, found.correlation) == (3, 0.5, pytest.approx(1))
    assert found.relative_error == 0.5
    assert (found.relevance, found.absorbed_by_biases) == (0.5, 0.25)
    assert found.absorbed_by_positions == pytest.approx(2 / 12)
    assert found.relevance + found.absorbed_by_biases + found.absorbed_by_positions + found.lost == pytest.approx(1)


def test_the_slope_is_that_of_least_squares():
    torch.manual_seed(0)
    x, noise = torch.randn(50).double(), torch.randn(50).double()
    y = 3 * x + 1 + noise
    found = conservation(facts_of(x.tolist(), y.tolist()))
    expected = torch.linalg.lstsq(torch.stack((x, torch.ones(50)), 1), y[:, None]).solution[0, 0].item()
    assert found.slope == pytest.approx(expected, abs=1e-12)
    assert found.correlation == pytest.approx(torch.corrcoef(torch.stack((x, y)))[0, 1].item(), abs=1e-12)


def test_one_example_has_no_slope_and_one_that_explains_nothing_no_relative_error():
    assert math.isnan(conservation(facts_of([2.0], [1.0])).slope)
    assert conservation(facts_of([2.0, 0.0], [1.0, 5.0])).relative_error == 0.5


@pytest.mark.parametrize(("name", "all_arrives"), [("llama", True), ("bert", False)])
def test_models_say_where_relevance_went(name, all_arrives):
    model = tiny_model(name)
    ids = torch.randint(5, 100, (6, 9), generator=torch.Generator().manual_seed(0))
    scored = Explainer(model).scored_many(ids, methods={"m": "lrp_ah_ln", "a": "attn_lrp"}, target=[0, 1])
    found, partial = (conservation(scored[label].facts) for label in ("m", "a"))
    assert found.n == 12
    assert abs(found.lost) < 1e-9
    assert abs(partial.lost) > 0.01
    if all_arrives:
        assert (found.slope, found.correlation, found.relevance) == (pytest.approx(1),) * 3
    else:
        assert abs(found.absorbed_by_biases) > 0.01
        assert abs(found.absorbed_by_positions) > 0.01
