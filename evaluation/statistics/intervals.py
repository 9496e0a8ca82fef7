"""Means over examples with bootstrap intervals. Examples are what is resampled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from attribution.errors import InputError
from evaluation.statistics.bootstrap import bca_interval, bootstrap_columns
from evaluation.statistics.moments import Floats, Moments, moments
from evaluation.statistics.p_values import anytime_interval
from evaluation.statistics.values import ValueTable


class Interval(NamedTuple):
    """A mean with its interval; `n` examples counted, `n_undefined` left out."""

    value: float
    low: float
    high: float
    n: int
    n_undefined: int


def mean_interval(
    values: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    samples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    anytime: bool = False,
) -> Interval:
    """Mean of `values` [n] and its BCa bootstrap interval; with weights, sum(w v) / sum(w).

    NaN is undefined: counted and left out, as is a weight of 0 or NaN. Without any defined value all three are NaN.
    With `anytime` the interval holds at whatever number of examples one stopped (`anytime_interval`).
    """
    value = np.asarray(values, dtype=np.float64).ravel()
    weight = np.ones_like(value) if weights is None else np.asarray(weights, dtype=np.float64).ravel()
    if value.shape != weight.shape:
        raise InputError(f"weights: {len(weight)} weights for {len(value)} values")
    defined = ~np.isnan(value) & (weight > 0)
    columns = value[defined, None], weight[defined, None]
    if anytime:
        of = moments(*columns)
        return _listed(of, *anytime_interval(of, confidence), len(value))[0]
    return _intervals(*columns, len(value), samples, confidence, seed)[0]


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    samples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    anytime: bool = False,
) -> Interval:
    """Mean of a - b over the examples for which both are defined, with its interval."""
    first, second = np.asarray(a, dtype=np.float64).ravel(), np.asarray(b, dtype=np.float64).ravel()
    if first.shape != second.shape:
        raise InputError(f"a paired difference needs values of the same examples, not {len(first)} and {len(second)}")
    return mean_interval(first - second, weights, samples=samples, confidence=confidence, seed=seed, anytime=anytime)


def mean_intervals(
    table: ValueTable, *, samples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> dict[tuple[str, str], Interval]:
    """The interval of each (method, metric), from the same resamples of the examples."""
    found = _intervals(*table.columns(), len(table.items), samples, confidence, seed)
    keys = [(method, metric) for metric in table.metrics for method in table.methods]
    return dict(zip(keys, found, strict=True))


def _intervals(
    values: Floats, weights: Floats, asked: int, samples: int, confidence: float, seed: int
) -> list[Interval]:
    """Of columns [n, C], `asked` being the examples that should have had a value."""
    of = moments(values, weights)
    low, high = of.mean, of.mean
    if np.any(of.error > 0):
        low, high = bca_interval(bootstrap_columns(values, weights, samples=samples, seed=seed), of, confidence)
    return _listed(of, low, high, asked)


def _listed(of: Moments, low: Floats, high: Floats, asked: int) -> list[Interval]:
    """One for each column; `asked` examples should have had a value."""
    rows = zip(*(each.tolist() for each in (of.mean, low, high, of.n)), strict=True)
    return [Interval(value, lowest, highest, n, asked - n) for value, lowest, highest, n in rows]
