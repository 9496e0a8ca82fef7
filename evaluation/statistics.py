"""Means over examples with bootstrap intervals. Examples are what is resampled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attribution.errors import InputError

Floats = NDArray[np.float64]
DRAWS_AT_ONCE = 2_000_000  # 16 MB of indexes


class Interval(NamedTuple):
    """A mean with its percentile interval; `n` examples counted, `n_undefined` left out."""

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
) -> Interval:
    """Mean of `values` [n] and its percentile bootstrap interval; with weights, sum(w v) / sum(w).

    NaN is undefined: counted and left out, as is a weight of 0 or NaN. Without any defined value all three are NaN.
    """
    value = np.asarray(values, dtype=np.float64).ravel()
    weight = np.ones_like(value) if weights is None else np.asarray(weights, dtype=np.float64).ravel()
    if value.shape != weight.shape:
        raise InputError(f"weights: {len(weight)} weights for {len(value)} values")
    defined = ~np.isnan(value) & (weight > 0)
    n = int(defined.sum())
    low_mean_high = _percentiles(value[defined], weight[defined], samples, confidence, seed)
    return Interval(*low_mean_high, n, len(value) - n)


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    samples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean of a - b over the examples for which both are defined, with its interval."""
    first, second = np.asarray(a, dtype=np.float64).ravel(), np.asarray(b, dtype=np.float64).ravel()
    if first.shape != second.shape:
        raise InputError(f"a paired difference needs values of the same examples, not {len(first)} and {len(second)}")
    return mean_interval(first - second, weights, samples=samples, confidence=confidence, seed=seed)


def _percentiles(
    value: Floats, weight: Floats, samples: int, confidence: float, seed: int
) -> tuple[float, float, float]:
    """Mean, low and high end."""
    if not len(value):
        return (np.nan, np.nan, np.nan)
    if value.min() == value.max():
        return (float(value[0]),) * 3
    means = _bootstrap_means(value, weight, samples, seed)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(np.average(value, weights=weight)), float(low), float(high)


def _bootstrap_means(value: Floats, weight: Floats, samples: int, seed: int) -> Floats:
    """Weighted means of `samples` resamples with replacement, a bounded number at a time."""
    generator = np.random.default_rng(seed)
    weighted, step = value * weight, max(1, DRAWS_AT_ONCE // len(value))
    means = []
    for start in range(0, samples, step):
        drawn = generator.integers(0, len(value), (min(step, samples - start), len(value)))
        means.append(weighted[drawn].sum(1) / weight[drawn].sum(1))
    return np.concatenate(means)


def bootstrap_columns(values: Floats, weights: Floats, *, samples: int, seed: int) -> Floats:
    """Weighted column means [samples, m] of `values` [n, m], resampling rows, for all columns the same ones.

    A weight of 0 leaves a value out. A resample in which a column has no weight at all gives NaN.
    """
    generator, n = np.random.default_rng(seed), len(values)
    weighted, step = np.where(weights > 0, values, 0.0) * weights, max(1, DRAWS_AT_ONCE // max(n, 1))
    means = []
    for start in range(0, samples, step):
        rows = min(step, samples - start)
        drawn = generator.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)
        totals = counts @ weights
        means.append(np.divide(counts @ weighted, totals, out=np.full_like(totals, np.nan), where=totals > 0))
    return np.concatenate(means)


def holm(p_values: ArrayLike) -> Floats:
    """P values adjusted so that the chance of any false rejection among them is bounded (Holm 1979). NaN stays."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    factors = np.arange(len(order), 0, -1)
    adjusted = np.full_like(p, np.nan)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return adjusted
