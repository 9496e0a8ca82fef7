"""Does the ranking of methods survive another perturbation operator?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from attribution.errors import InputError
from evaluation.statistics.bootstrap import bootstrap_columns, sorted_quantiles
from evaluation.statistics.comparisons import Comparisons
from evaluation.statistics.moments import Floats, moments
from evaluation.statistics.values import ValueTable


@dataclass(frozen=True)
class OperatorAgreement:
    """Kendall's tau-b between the rankings of methods under two operators, with a percentile interval over examples.

    `ceiling` is the mean tau between the first operator's ranking and that of its own resamples: what agreement looks
    like when nothing but examples differs. `reversals` are pairs (ahead, behind) decided one way under the first
    operator and the other way under the second.
    """

    operator: str
    other: str
    tau: float
    low: float
    high: float
    ceiling: float
    best: str
    best_other: str
    reversals: tuple[tuple[str, str], ...]
    n: int
    n_undefined: int


def operator_agreement(
    tables: Mapping[str, ValueTable],
    comparisons: Mapping[str, Comparisons],
    metric: str,
    *,
    samples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[OperatorAgreement]:
    """Every pair of operators, on the methods and examples that both have; InputError for fewer than two methods."""
    return [
        _agreement((first, second), tables, comparisons, metric, samples, confidence, seed)
        for first, second in combinations(tables, 2)
    ]


def _agreement(
    names: tuple[str, str],
    tables: Mapping[str, ValueTable],
    comparisons: Mapping[str, Comparisons],
    metric: str,
    samples: int,
    confidence: float,
    seed: int,
) -> OperatorAgreement:
    methods = [name for name in tables[names[0]].methods if name in tables[names[1]].methods]
    if len(methods) < 2:
        raise InputError(f"operators {names[0]} and {names[1]} have {len(methods)} methods in common; two are needed")
    items = set(tables[names[0]].items) & set(tables[names[1]].items)
    both = [tables[name].only([metric], methods).where(sorted(items)) for name in names]
    means = [table.signs[0] * moments(*table.columns()).mean for table in both]
    drawn = [table.signs[0] * bootstrap_columns(*table.columns(), samples=samples, seed=seed) for table in both]
    taus = kendall(drawn[0], drawn[1])
    levels = np.array([[(1 - confidence) / 2], [(1 + confidence) / 2]])
    low, high = sorted_quantiles(taus[:, None], levels)[:, 0]
    counted = np.logical_and.reduce([table.defined[0].all(1) for table in both])
    return OperatorAgreement(
        *names,
        float(kendall(means[0][None], means[1][None])[0]),
        float(low),
        float(high),
        float(np.nanmean(kendall(means[0][None], drawn[0]))),
        _best(methods, means[0]),
        _best(methods, means[1]),
        tuple(_reversals(comparisons[names[0]], comparisons[names[1]], methods, metric)),
        int(counted.sum()),
        int((~counted).sum()),
    )


def kendall(first: Floats, second: Floats) -> Floats:
    """Tau-b of rows of [S, M] and [S, M], or of one row and many; NaN where a row is constant or has NaN."""
    upper = np.triu_indices(first.shape[1], 1)
    a, b = (np.sign(each[:, upper[0]] - each[:, upper[1]]) for each in (first, second))
    with np.errstate(invalid="ignore", divide="ignore"):
        tau: Floats = (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return tau


def _best(methods: list[str], means: Floats) -> str:
    return methods[int(np.argmax(np.nan_to_num(means, nan=-np.inf)))]


def _reversals(first: Comparisons, second: Comparisons, methods: list[str], metric: str) -> list[tuple[str, str]]:
    return [
        (ahead, behind)
        for ahead in methods
        for behind in methods
        if ahead != behind
        and first.difference(ahead, behind, metric).better is True
        and second.difference(ahead, behind, metric).better is False
    ]
