"""Places of methods: with intervals, by wins on single examples, and by mean rank with a critical difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc  # type: ignore[import-untyped]

from attribution.errors import InputError
from evaluation.statistics.comparisons import Comparisons
from evaluation.statistics.moments import Floats, Ints
from evaluation.statistics.values import ValueTable


@dataclass(frozen=True)
class Rank:
    """The place of a method under a metric, 1 being the best, and the places that the data leave open."""

    method: str
    metric: str
    best: int
    worst: int


def rank_intervals(comparisons: Comparisons) -> list[Rank]:
    """The places each method can have, for all methods of a metric at once with the comparisons' confidence.

    Behind all that are better after Holm, before all that are worse (Mohamad et al. 2021). Bootstrapped ranks would be
    too narrow where methods tie (Xie et al. 2009).
    """
    better = comparisons.better
    best, worst = 1 + better.sum(1), len(comparisons.methods) - better.sum(2)
    return [
        Rank(method, metric, int(best[k, i]), int(worst[k, i]))
        for k, metric in enumerate(comparisons.metrics)
        for i, method in enumerate(comparisons.methods)
    ]


@dataclass(frozen=True)
class WinMatrix:
    """On how many examples the row is better than the column, all counts [M, M]; `n` have both."""

    methods: tuple[str, ...]
    metric: str
    wins: Ints
    ties: Ints
    n: Ints

    @property
    def share(self) -> Floats:
        """Wins and half the ties over the examples that have both; NaN where there is none, and on the diagonal."""
        counted = np.where(np.eye(len(self.methods), dtype=bool), 0, self.n)
        share = np.full(self.n.shape, np.nan)
        np.divide(self.wins + self.ties / 2, counted, out=share, where=counted > 0)
        return share


def win_matrix(table: ValueTable, metric: str) -> WinMatrix:
    """Wins, ties and examples of all pairs under a metric."""
    k, size = table.metric(metric), len(table.methods)
    columns = np.ascontiguousarray(table.signs[k] * table.values[k].T)  # [M, n]
    wins, ties = (np.empty((size, size), dtype=np.int64) for _ in range(2))
    for i in range(size):
        wins[i], ties[i] = (columns[i] > columns).sum(1), (columns[i] == columns).sum(1)
    defined = table.defined[k].astype(np.float64)
    return WinMatrix(table.methods, metric, wins, ties, (defined.T @ defined).astype(np.int64))


def wins_across(comparisons: Sequence[Comparisons], metric: str) -> tuple[tuple[str, ...], Ints]:
    """The methods that all data sets have, and on how many data sets the row is better than the column after Holm."""
    methods = tuple(name for name in comparisons[0].methods if all(name in each.methods for each in comparisons))
    counts = np.zeros((len(methods), len(methods)), dtype=np.int64)
    for each in comparisons:
        places = [each.methods.index(name) for name in methods]
        counts += each.better[each.metrics.index(metric)][np.ix_(places, places)]
    return methods, counts


@dataclass(frozen=True)
class CriticalDifference:
    """Mean ranks over blocks, best first; methods of a group differ by less than `difference` (Demsar 2006).

    `p` is that of Friedman's test that no method differs. Blocks without all methods are left out and counted; methods
    without any value are left out and named.
    """

    methods: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    difference: float
    groups: tuple[tuple[str, ...], ...]
    statistic: float
    p: float
    n: int
    n_undefined: int
    left_out: tuple[str, ...]


def critical_difference(
    blocks: Floats, methods: Sequence[str], *, higher_is_better: bool, confidence: float = 0.95
) -> CriticalDifference:
    """Of `blocks` [N, M], a block being an example or a data set. InputError for fewer than two of either."""
    from scipy.stats import rankdata, studentized_range  # type: ignore[import-untyped]

    measured = np.asarray(~np.isnan(blocks).all(0))
    names = [name for name, kept in zip(methods, measured, strict=True) if kept]
    complete = blocks[:, measured][~np.isnan(blocks[:, measured]).any(1)]
    n, size = complete.shape
    if n < 2 or size < 2:
        raise InputError(f"a critical difference needs two blocks and two methods with all values, not {n} and {size}")
    ranks = rankdata(-complete if higher_is_better else complete, axis=1)
    mean = ranks.mean(0)
    difference = studentized_range.ppf(confidence, size, np.inf) / np.sqrt(2) * np.sqrt(size * (size + 1) / (6 * n))
    spread = ((ranks - (size + 1) / 2) ** 2).sum() / (n * (size - 1))  # size * (size + 1) / 12 without ties
    statistic = float(n * ((mean - (size + 1) / 2) ** 2).sum() / spread) if spread else 0.0
    order = np.lexsort((np.array(names), mean))
    ordered, places = tuple(names[i] for i in order), tuple(float(mean[i]) for i in order)
    return CriticalDifference(
        ordered,
        places,
        float(difference),
        _groups(ordered, places, float(difference)),
        statistic,
        float(chdtrc(size - 1, statistic)),
        n,
        len(blocks) - n,
        tuple(name for name, kept in zip(methods, measured, strict=True) if not kept),
    )


def critical_difference_within(table: ValueTable, metric: str, *, confidence: float = 0.95) -> CriticalDifference:
    """Within one data set: every example ranks the methods."""
    k = table.metric(metric)
    higher = table.higher_is_better[k]
    return critical_difference(table.values[k], table.methods, higher_is_better=higher, confidence=confidence)


def critical_difference_across(
    tables: Sequence[ValueTable], metric: str, *, confidence: float = 0.95
) -> CriticalDifference:
    """Across data sets: each ranks the methods by their means over the examples that all its methods have."""
    methods = list(dict.fromkeys(name for table in tables for name in table.methods))
    blocks = np.full((len(tables), len(methods)), np.nan)
    for row, table in zip(blocks, tables, strict=True):
        row[[methods.index(name) for name in table.methods]] = _complete_means(table, table.metric(metric))
    higher = tables[0].higher_is_better[tables[0].metric(metric)]
    return critical_difference(blocks, methods, higher_is_better=higher, confidence=confidence)


def _complete_means(table: ValueTable, k: int) -> Floats:
    """Weighted means [M] over the examples that all measured methods have; NaN for a method without any."""
    measured = table.defined[k].any(0)
    rows = table.defined[k][:, measured].all(1)
    means = np.full(len(table.methods), np.nan)
    if rows.any() and measured.any():
        means[measured] = np.average(table.values[k][rows][:, measured], axis=0, weights=table.weights[k][rows])
    return means


def _groups(methods: tuple[str, ...], ranks: tuple[float, ...], difference: float) -> tuple[tuple[str, ...], ...]:
    """The longest runs of two or more methods within the difference: the bars of the plot."""
    ends = [max(j for j in range(i, len(ranks)) if ranks[j] - ranks[i] < difference) for i in range(len(ranks))]
    return tuple(methods[i : end + 1] for i, end in enumerate(ends) if end > i and (i == 0 or end > ends[i - 1]))
