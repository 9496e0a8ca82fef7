"""The bootstrap over examples: resampled means of many columns at once, and intervals read from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri  # type: ignore[import-untyped]

from evaluation.statistics.moments import Floats, Ints, Moments

DRAWS_AT_ONCE = 2_000_000  # 16 MB of indexes
KEPT = 2**27  # counts that are held for further columns: 256 MB; of more, they are drawn again
TIE = 1e-9  # standard errors within which a resampled mean counts as equal to the mean: rounding, not chance


@dataclass(frozen=True)
class Resamples:
    """So many resamples of `n` examples, for as many columns as come: how often each example is drawn."""

    n: int
    samples: int
    seed: int

    def sums(self, columns: Floats, rows: Ints | None = None) -> Floats:
        """Sums [samples, m] of `columns` [n, m], or of columns [r, m] that only these rows have."""
        sums = np.empty((self.samples, columns.shape[1]))
        for start, counts in self._kept if self.n * self.samples <= KEPT else self._drawn():
            own = counts if rows is None else counts[:, rows]
            sums[start : start + len(own)] = own.astype(np.float64) @ columns
        return sums

    @cached_property
    def _kept(self) -> list[tuple[int, NDArray[np.uint16]]]:
        return list(self._drawn())

    def _drawn(self) -> Iterator[tuple[int, NDArray[np.uint16]]]:
        """Counts [r, n] of some resamples at a time, after how many others; no example is drawn 65,536 times."""
        generator, step = np.random.default_rng(self.seed), max(1, DRAWS_AT_ONCE // max(self.n, 1))
        for start in range(0, self.samples, step):
            rows = min(step, self.samples - start)
            drawn = generator.integers(0, self.n, (rows, self.n)) + self.n * np.arange(rows)[:, None]
            counts = np.bincount(drawn.ravel(), minlength=rows * self.n).reshape(rows, self.n)
            yield start, counts.astype(np.uint16)


def bootstrap_columns(values: Floats, weights: Floats, *, samples: int, seed: int) -> Floats:
    """Weighted column means [samples, m] of `values` [n, m], resampling rows, for all columns the same ones.

    A weight of 0 leaves a value out. A resample in which a column has no weight at all gives NaN.
    """
    distinct, pattern = _distinct_columns(weights)
    weighted = np.where(weights > 0, values, 0.0) * weights
    sums = Resamples(len(values), samples, seed).sums(np.hstack([weighted, distinct]))
    return quotients(sums[:, : weighted.shape[1]], sums[:, weighted.shape[1] :][:, pattern])


def quotients(sums: Floats, totals: Floats) -> Floats:
    """Means of resamples, NaN where a total is 0."""
    means = np.full(sums.shape, np.nan)
    np.divide(sums, totals, out=means, where=totals > 0)
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
