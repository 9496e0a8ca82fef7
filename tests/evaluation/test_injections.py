from __future__ import annotations

import numpy as np
import pytest

from attribution.errors import InputError
from evaluation.injections import compare_arms

HIGHER = {"rouge1": True, "loss": False}


def test_arms_by_hand():
    rng = np.random.default_rng(0)
    base = rng.normal(size=(3, 2, 40))
    better = base + np.array([0.5, -0.2])[:, None] + np.array([0.0, 0.1, -0.1])[:, None, None]
    found = compare_arms({"base": base, "patterns": better}, [f"d{i:02}" for i in range(40)], HIGHER, samples=200)
    np.testing.assert_allclose(found.mean[:, 1] - found.mean[:, 0], [0.5, -0.2])
    np.testing.assert_allclose(found.spread[:, 0], base.mean(2).std(0, ddof=1))
    for metric, value in zip(HIGHER, (0.5, -0.2), strict=True):
        difference = found.pairs.difference("patterns", "base", metric)
        assert difference.value == pytest.approx(value)
        assert difference.better is True
        assert difference.low == pytest.approx(value)  # every example moves as much


def test_examples_are_paired_whatever_the_seeds():
    rng = np.random.default_rng(1)
    base, other = rng.normal(size=(2, 4, 1, 60))
    found = compare_arms({"base": base, "other": other}, [str(i) for i in range(60)], {"m": True}, samples=400)
    difference = found.pairs.difference("other", "base", "m")
    assert difference.value == pytest.approx((other - base).mean())
    assert difference.low < difference.value < difference.high
    one = compare_arms({"base": base[:1], "other": other[:1]}, [str(i) for i in range(60)], {"m": True}, samples=10)
    assert np.isnan(one.spread).all()


def test_values_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="seeds x 1 metrics x 3 examples"):
        compare_arms({"a": np.zeros((1, 1, 3)), "b": np.zeros((2, 1, 3))}, ["x", "y", "z"], {"m": True})
