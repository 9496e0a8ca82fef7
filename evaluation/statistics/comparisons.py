"""Every method against every other on the same examples: paired differences, corrected, and whom they put ahead."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from attribution.errors import InputError
from evaluation.statistics.bootstrap import Resamples, bca_interval, quotients
from evaluation.statistics.moments import Bools, Floats, Ints, Moments, moments, t_statistic
from evaluation.statistics.p_values import PLANNED, anytime_interval, anytime_test, holm, t_test
from evaluation.statistics.values import ValueTable

SKEWED = 1 / 30  # acceleration beyond which a mean is not near normal: Cochran's n > 25 skewness ** 2
COLUMNS_AT_ONCE = 512  # of paired differences that need resamples of their own
ALL = slice(None)


@dataclass(frozen=True)
class Difference:
    """Mean of `method` minus `rival` over the examples on which both are defined."""

    method: str
    rival: str
    metric: str
    value: float
    low: float
    high: float
    p: float
    adjusted: float  # P after Holm over all pairs of the metric
    n: int
    n_undefined: int
    better: bool | None  # whether `method` is the better one; None where that is undecided
    skewed: bool  # so much that P and interval are only rough


@dataclass(frozen=True)
class Comparisons:
    """All pairs of methods under each metric; arrays are [K, M, M], row minus column, NaN on the diagonal.

    With `anytime` intervals and P values hold at whatever number of examples one stopped.
    """

    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    higher_is_better: tuple[bool, ...]
    value: Floats
    low: Floats
    high: Floats
    error: Floats  # standard error of `value`
    acceleration: Floats  # skewness of `value`, over 6
    p: Floats
    adjusted: Floats
    n: Ints
    n_examples: int
    confidence: float
    anytime: bool

    @cached_property
    def better(self) -> Bools:
        """Whether the row is better than the column, all metrics pointing up, after Holm: [K, M, M]."""
        signs = np.where(np.asarray(self.higher_is_better, dtype=bool), 1.0, -1.0)[:, None, None]
        return (self.adjusted <= 1 - self.confidence) & (signs * self.value > 0)

    def difference(self, method: str, rival: str, metric: str) -> Difference:
        """One pair under one metric."""
        k, i, j = self.metrics.index(metric), self.methods.index(method), self.methods.index(rival)
        arrays = (self.value, self.low, self.high, self.p, self.adjusted)
        value, low, high, p, adjusted = (float(each[k, i, j]) + 0.0 for each in arrays)  # no zero is below zero
        better = True if self.better[k, i, j] else False if self.better[k, j, i] else None
        n = int(self.n[k, i, j])
        skewed = bool(abs(self.acceleration[k, i, j]) > SKEWED)
        return Difference(method, rival, metric, value, low, high, p, adjusted, n, self.n_examples - n, better, skewed)

    def differences(self, metric: str) -> Iterator[Difference]:
        """Every pair once."""
        for i, method in enumerate(self.methods):
            for rival in self.methods[i + 1 :]:
                yield self.difference(method, rival, metric)


def compare_methods(
    table: ValueTable,
    *,
    samples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    anytime: bool = False,
    planned: int = PLANNED,
) -> Comparisons:
    """Paired differences of all pairs: P by the paired t-test, Holm over the pairs of a metric, BCa intervals.

    With `anytime`, P values and intervals are those of the mixture t-test (`anytime_test`), for data that were looked
    at while examples were added; no resampling then.
    """
    if len(table.methods) < 2:
        raise InputError(f"a comparison needs two methods, not {len(table.methods)}")
    upper = np.triu_indices(len(table.methods), 1)
    of = _pair_moments(table)
    t = t_statistic(of.mean, of.error)
    p = anytime_test(t, of.n, planned) if anytime else t_test(t, of.n)
    adjusted = np.stack([holm(row) for row in p])
    if anytime:
        low, high = anytime_interval(of, confidence, planned)
    else:
        low, high = _bootstrap_intervals(table, of, samples, confidence, seed)
    square = _Square(len(table.methods), upper)
    return Comparisons(
        table.methods,
        table.metrics,
        table.higher_is_better,
        value=square(of.mean, -of.mean),
        low=square(low, -high),
        high=square(high, -low),
        error=square(of.error, of.error),
        acceleration=square(of.acceleration, -of.acceleration),
        p=square(p, p),
        adjusted=square(adjusted, adjusted),
        n=np.nan_to_num(square(of.n, of.n)).astype(np.int64),
        n_examples=len(table.items),
        confidence=confidence,
        anytime=anytime,
    )


@dataclass(frozen=True)
class _Square:
    """Puts pairs [K, P] above the diagonal of [K, M, M] and their mirror images below it."""

    size: int
    upper: tuple[Ints, Ints]

    def __call__(self, above: Floats | Ints, below: Floats | Ints) -> Floats:
        full = np.full((len(above), self.size, self.size), np.nan)
        full[:, self.upper[0], self.upper[1]] = above
        full[:, self.upper[1], self.upper[0]] = below
        return full


def _pair_moments(table: ValueTable) -> Moments:
    """Of the differences of all pairs, [K, P]; a method at a time, so that little memory is needed."""
    parts = [
        [moments(*_differences(table, k, [i] * len(rivals), rivals)) for k in range(len(table.metrics))]
        for i in range(len(table.methods) - 1)
        for rivals in [range(i + 1, len(table.methods))]
    ]
    return Moments(
        *(
            np.concatenate([np.stack([of[field] for of in metrics]) for metrics in parts], axis=1)
            for field in range(len(Moments._fields))
        )
    )


def _differences(
    table: ValueTable, metric: int, first: ArrayLike, second: ArrayLike, rows: Ints | slice = ALL
) -> tuple[Floats, Floats]:
    """Differences of columns [n, C] and the weights of those that are defined, of these examples."""
    values = table.values[metric][rows]
    difference = values[:, np.asarray(first)] - values[:, np.asarray(second)]
    return difference, ~np.isnan(difference) * table.weights[metric][rows][:, None]


def _bootstrap_intervals(
    table: ValueTable, of: Moments, samples: int, confidence: float, seed: int
) -> tuple[Floats, Floats]:
    """BCa ends [K, P], all pairs of all metrics by the same draws."""
    resamples, pairs = Resamples(len(table.items), samples, seed), np.triu_indices(len(table.methods), 1)
    ends = np.empty((2, *of.mean.shape))
    for k in range(len(table.metrics)):
        drawn = _resampled(table, k, pairs, resamples)
        ends[:, k] = bca_interval(drawn, Moments(*(field[k] for field in of)), confidence)
    return ends[0], ends[1]


def _resampled(table: ValueTable, metric: int, pairs: tuple[Ints, Ints], resamples: Resamples) -> Floats:
    """Mean differences [samples, P]. Sums of methods do for the examples that all have, which most examples are; only
    the others need the sums of pairs.
    """
    first, second = pairs
    defined, weights = table.defined[metric], table.weights[metric][:, None]
    measured = defined.any(0)
    alike = (defined == measured).all(1)
    own = np.flatnonzero(alike)
    columns = np.hstack([np.where(defined[own], table.values[metric][own], 0.0) * weights[own], weights[own]])
    sums = resamples.sums(columns, None if alike.all() else own)
    drawn, totals = sums[:, first] - sums[:, second], np.repeat(sums[:, -1:], len(first), 1)
    apart = np.flatnonzero(~alike & (defined.sum(1) > 1))
    for start in range(0, len(first) if len(apart) else 0, COLUMNS_AT_ONCE):
        chunk = slice(start, start + COLUMNS_AT_ONCE)
        difference, weight = _differences(table, metric, first[chunk], second[chunk], apart)
        drawn[:, chunk] += resamples.sums(np.nan_to_num(difference) * weight, apart)
        totals[:, chunk] += resamples.sums(weight, apart)
    totals[:, ~(measured[first] & measured[second])] = 0.0
    return quotients(drawn, totals)
