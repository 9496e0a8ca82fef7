"""Mean rank correlations against SciPy one text at a time, and a tree that keeps together what says the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.cluster.hierarchy import cophenet
from scipy.spatial.distance import squareform
from scipy.stats import spearmanr

from evaluation.likeness import likeness


def drawn(n=30, seed=0):
    """Three pairs of methods that nearly say the same, on texts of different length; one item is too short."""
    rng = np.random.default_rng(seed)
    lengths = {f"t{i}": int(rng.integers(6, 14)) for i in range(n)} | {"short": 4}
    tokens = {item: np.arange(length) > 0 for item, length in lengths.items()}
    bases = [{item: rng.normal(size=length) for item, length in lengths.items()} for _ in range(3)]
    scores = {
        f"{name}{twin}": {item: values + 0.1 * rng.normal(size=len(values)) for item, values in base.items()}
        for twin in (1, 2)
        for name, base in zip("abc", bases, strict=True)
    }
    return scores, tokens


def test_correlations_are_those_of_scipy_and_twins_stand_together():
    scores, tokens = drawn()
    found = likeness(scores, tokens)
    assert found.n == 30
    for i, first in enumerate(found.methods):
        for j, second in enumerate(found.methods):
            own = [
                spearmanr(scores[first][item][kept], scores[second][item][kept]).statistic
                for item, kept in tokens.items()
                if item != "short"
            ]
            assert found.correlations[i, j] == pytest.approx(np.mean(own), abs=1e-12)
    assert [name[0] for name in found.methods[::2]] == [name[0] for name in found.methods[1::2]]
    heights = squareform(cophenet(found.merges))
    twins = [heights[i, i + 1] for i in range(0, 6, 2)]
    assert max(twins) < 0.2 < min(heights[0, 2], heights[2, 4])
    assert twins == pytest.approx([1 - found.correlations[i, i + 1] for i in range(0, 6, 2)])


def test_a_text_that_a_method_lacks_counts_for_the_others():
    scores, tokens = drawn(4)
    lame = scores["a1"]
    del lame["t0"]
    lame["t1"] = lame["t1"] * math.nan
    found = likeness(scores, tokens)
    one, other = found.methods.index("a1"), found.methods.index("b1")
    own = [spearmanr(lame[t][tokens[t]], scores["b1"][t][tokens[t]]).statistic for t in ("t2", "t3")]
    assert found.correlations[one, other] == pytest.approx(np.mean(own))


def test_methods_that_cannot_be_compared_are_left_out():
    scores, tokens = drawn(5)
    scores["constant"] = {item: np.ones(len(kept)) for item, kept in tokens.items()}
    assert set(likeness(scores, tokens).methods) == set(scores) - {"constant"}
    assert likeness({"a1": scores["a1"], "constant": scores["constant"]}, tokens) is None
    assert likeness({"a1": scores["a1"]}, tokens) is None
    assert likeness(scores, {"short": tokens["short"]}) is None
