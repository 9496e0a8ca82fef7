"""Several runs side by side: mean ranks of the methods that all have, and who beats whom on how many of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attribution.errors import InputError
from evaluation.statistics import CriticalDifference, critical_difference_across, wins_across
from evaluation.statistics.moments import Ints
from pipeline.recommendation import Recommendation


@dataclass(frozen=True)
class Across:
    """What several runs say together, methods by mean rank.

    `wins` [M, M]: on how many runs the row is better than the column, after Holm.
    """

    metric: str
    n: int  # runs
    methods: tuple[str, ...]
    wins: Ints
    ranks: CriticalDifference | None
    problem: str = ""  # why there are no ranks


def across(found: Sequence[Recommendation]) -> Across | str | None:
    """Of the candidates that all runs have, or why they cannot be put together; None of one run."""
    if len(found) < 2:
        return None
    shared = sorted(set.intersection(*(set(each.candidates) for each in found)))
    led = sorted({each.rule.metric for each in found})
    if len(led) > 1:
        return f"the runs are led by {', '.join(led)}; --metric names one"
    if len(shared) < 2:
        return "the runs have fewer than two methods in common"
    methods, wins = wins_across([each.compared for each in found], led[0])
    ranks, problem = _ranks(found, shared, led[0])
    order = shared if ranks is None else [*ranks.methods, *ranks.left_out]
    places = [methods.index(name) for name in order]
    return Across(led[0], len(found), tuple(order), wins[places][:, places], ranks, problem)


def _ranks(found: Sequence[Recommendation], methods: list[str], metric: str) -> tuple[CriticalDifference | None, str]:
    try:
        return critical_difference_across([each.table.only(methods=methods) for each in found], metric), ""
    except InputError as error:
        return None, str(error)


def left_out(ranks: CriticalDifference, over: str) -> str:
    """What mean ranks over examples or runs leave out, as sentences; empty where that is nothing."""
    few = f" Left out: {ranks.n_undefined} {over} without a value of every method." if ranks.n_undefined else ""
    none = f" Without any value: {', '.join(ranks.left_out)}." if ranks.left_out else ""
    return few + none
