"""Does the ranking of methods survive another perturbation operator?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from attribution.errors import InputError
from evaluation.statistics.bootstrap import bootstrap_columns, sorted_quantiles
from evaluation.statistics.comparisons import Comparisons
from evaluation.statistics.moments import Bools, Floats, moments
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
    metric: str
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
    *,
    samples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[OperatorAgreement]:
    """Every pair of operators under every metric, on the methods and examples that both have.

    InputError for fewer than two methods.
    """
    return [
        found
        for names in combinations(tables, 2)
        for found in _agreements(
            names,
            _shared([tables[name] for name in names], names),
            [comparisons[name] for name in names],
            samples,
            confidence,
            seed,
        )
    ]


def _shared(tables: Sequence[ValueTable], names: Sequence[str]) -> list[ValueTable]:
    """The tables on the metrics, methods and examples that all have, in the same order."""
    first, second = tables
    methods = [name for name in first.methods if name in second.methods]
    metrics = [name for name in first.metrics if name in second.metrics]
    if len(methods) < 2:
        raise InputError(f"operators {names[0]} and {names[1]} have {len(methods)} methods in common; two are needed")
    items = sorted(set(first.items) & set(second.items))
    return [table.only(metrics, methods).where(items) for table in tables]


def _agreements(
    names: tuple[str, str],
    both: Sequence[ValueTable],
    compared: Sequence[Comparisons],
    samples: int,
    confidence: float,
    seed: int,
) -> Iterator[OperatorAgreement]:
    methods, shape = both[0].methods, (len(both[0].metrics), len(both[0].methods))
    upwards = both[0].signs[:, None]
    means = [upwards * moments(*table.columns()).mean.reshape(shape) for table in both]
    drawn = [
        upwards * bootstrap_columns(*table.columns(), samples=samples, seed=seed).reshape(-1, *shape) for table in both
    ]
    levels = np.array([[(1 - confidence) / 2], [(1 + confidence) / 2]])
    for k, metric in enumerate(both[0].metrics):
        low, high = sorted_quantiles(kendall(drawn[0][:, k], drawn[1][:, k])[:, None], levels)[:, 0]
        counted = np.logical_and.reduce([_complete(table.defined[k]) for table in both])
        yield OperatorAgreement(
            *names,
            metric,
            tau=float(kendall(means[0][[k]], means[1][[k]])[0]),
            low=float(low),
            high=float(high),
            ceiling=float(np.nanmean(kendall(means[0][[k]], drawn[0][:, k]))),
            best=_best(methods, means[0][k]),
            best_other=_best(methods, means[1][k]),
            reversals=tuple(_reversals(compared[0], compared[1], methods, metric)),
            n=int(counted.sum()),
            n_undefined=int((~counted).sum()),
        )


def _complete(defined: Bools) -> Bools:
    """Which examples [n] have a value of every method that has any."""
    return np.asarray(defined[:, defined.any(0)].all(1))


def kendall(first: Floats, second: Floats) -> Floats:
    """Tau-b of rows of [S, M] and [S, M], or of one row and many, over the pairs that both define.

    NaN where one of them is constant.
    """
    upper = np.triu_indices(first.shape[1], 1)
    a, b = (np.sign(each[:, upper[0]] - each[:, upper[1]]) for each in (first, second))
    known = ~np.isnan(a) & ~np.isnan(b)
    a, b = np.where(known, a, 0.0), np.where(known, b, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        tau: Floats = (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return tau


def _best(methods: Sequence[str], means: Floats) -> str:
    return methods[int(np.argmax(np.nan_to_num(means, nan=-np.inf)))]


def _reversals(first: Comparisons, second: Comparisons, methods: Sequence[str], metric: str) -> list[tuple[str, str]]:
    return [
        (ahead, behind)
        for ahead in methods
        for behind in methods
        if ahead != behind
        and first.difference(ahead, behind, metric).better is True
        and second.difference(ahead, behind, metric).better is False
    ]
