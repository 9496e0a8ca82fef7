"""The bootstrap over examples: resampled means of many columns at once, and intervals read from them."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri  # type: ignore[import-untyped]

from evaluation.statistics.moments import Floats, Moments

DRAWS_AT_ONCE = 2_000_000  # 16 MB of indexes
TIE = 1e-9  # standard errors within which a resampled mean counts as equal to the mean: rounding, not chance


def bootstrap_columns(values: Floats, weights: Floats, *, samples: int, seed: int) -> Floats:
    """Weighted column means [samples, m] of `values` [n, m], resampling rows, for all columns the same ones.

    A weight of 0 leaves a value out. A resample in which a column has no weight at all gives NaN.
    """
    generator, n = np.random.default_rng(seed), len(values)
    distinct, pattern = _distinct_columns(weights)
    weighted, step = np.where(weights > 0, values, 0.0) * weights, max(1, DRAWS_AT_ONCE // max(n, 1))
    means = np.empty((samples, values.shape[1]))
    for start in range(0, samples, step):
        rows = min(step, samples - start)
        drawn = generator.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)
        totals = (counts @ distinct)[:, pattern]
        sums, here = counts @ weighted, means[start : start + rows]
        here.fill(np.nan)
        np.divide(sums, totals, out=here, where=totals > 0)
    return means


def _distinct_columns(weights: Floats) -> tuple[Floats, list[int]]:
    """The columns that differ, and for each column which of them it is: most have the same weights."""
    places: dict[bytes, int] = {}
    pattern = [places.setdefault(column.tobytes(), len(places)) for column in np.ascontiguousarray(weights.T)]
    first = [pattern.index(place) for place in range(len(places))]
    return np.ascontiguousarray(weights[:, first]), pattern


def bca_interval(means: Floats, of: Moments, confidence: float) -> tuple[Floats, Floats]:
    """Low and high ends [C] from resampled `means` [samples, C]: bias-corrected and accelerated (Efron 1987).

    Sorts `means` in place. A column without any spread has no width.
    """
    tie = TIE * np.nan_to_num(of.error)
    defined = np.maximum((~np.isnan(means)).sum(0), 1)
    below = ((means < of.mean - tie).sum(0) + (means <= of.mean + tie).sum(0)) / (2 * defined)
    bias = ndtri(np.clip(below, 0.5 / defined, 1 - 0.5 / defined))
    z = bias + ndtri([[(1 - confidence) / 2], [(1 + confidence) / 2]])
    low, high = sorted_quantiles(means, ndtr(bias + z / (1 - of.acceleration * z)))
    flat = ~(of.error > 0)  # NaN: a single value
    return np.where(flat, of.mean, low), np.where(flat, of.mean, high)


def sorted_quantiles(means: Floats, levels: Floats) -> Floats:
    """Quantiles [Q, C] of each column of `means` [samples, C] at levels of its own [Q, C], NaN left out, interpolated.

    Sorts `means` in place.
    """
    means.sort(axis=0)  # NaN last
    last = (~np.isnan(means)).sum(0) - 1
    place = levels * np.maximum(last, 0)
    lower = np.floor(place).astype(np.int64)
    upper = np.minimum(lower + 1, np.maximum(last, 0))
    columns = np.arange(means.shape[1])
    low, high = means[lower, columns], means[upper, columns]
    quantiles: Floats = low + (place - lower) * (high - low)
    return quantiles
