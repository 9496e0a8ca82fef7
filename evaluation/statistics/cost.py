"""What a score costs: methods against forward equivalents, and those that no cheaper one matches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from evaluation.statistics.bootstrap import bca_interval, bootstrap_columns
from evaluation.statistics.moments import Bools, Floats, moments
from evaluation.statistics.values import ValueTable

BACKWARD = 2.0  # forwards that a backward pass costs: it multiplies by weights and by activations


@dataclass(frozen=True)
class CostPoint:
    """A method in the plane of cost and score. `support` is the share of resamples in which it is on the front."""

    method: str
    metric: str
    cost: float  # forward equivalents per example
    value: float
    low: float
    high: float
    on_front: bool
    support: float
    dominated_by: tuple[str, ...]  # methods that cost no more, score no less, and are better in one of the two


def forward_equivalents(forwards: float, backwards: float, *, backward: float = BACKWARD) -> float:
    """Cost in forward passes."""
    return forwards + backward * backwards


def cost_points(
    table: ValueTable,
    costs: Mapping[str, float],
    *,
    samples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, list[CostPoint]]:
    """By metric, the methods whose cost is known, cheapest first; one without any value is never on the front."""
    known = sorted((name for name in table.methods if name in costs), key=lambda name: (costs[name], name))
    own = table.only(methods=known)
    of, means = moments(*own.columns()), bootstrap_columns(*own.columns(), samples=samples, seed=seed)
    cost = np.array([costs[name] for name in known], dtype=np.float64)
    shape = (len(own.metrics), len(known))
    scores, drawn = of.mean.reshape(shape), means.reshape(-1, *shape)
    support = [_front(cost, sign * drawn[:, k]).mean(0) for k, sign in enumerate(own.signs)]
    low, high = (ends.reshape(shape) for ends in bca_interval(means, of, confidence))
    return {
        metric: [
            CostPoint(
                name,
                metric,
                float(cost[i]),
                value=float(scores[k, i]),
                low=float(low[k, i]),
                high=float(high[k, i]),
                on_front=bool(_front(cost, own.signs[k] * scores[[k]])[0, i]),
                support=float(support[k][i]),
                dominated_by=tuple(known[j] for j in np.flatnonzero(_dominates(cost, own.signs[k] * scores[k], i))),
            )
            for i, name in enumerate(known)
        ]
        for k, metric in enumerate(own.metrics)
    }


def best_within(points: list[CostPoint], budget: float) -> CostPoint | None:
    """The point of the front with the best score that the budget pays for: the dearest of them."""
    return max((p for p in points if p.on_front and p.cost <= budget), key=lambda p: p.cost, default=None)


def _front(cost: Floats, scores: Floats) -> Bools:
    """Which methods are dominated by none, in each row of `scores` [S, M]; NaN is dominated by all."""
    filled = np.where(np.isnan(scores), -np.inf, scores)
    dominated = np.zeros(filled.shape, dtype=bool)
    for i in range(len(cost)):
        better = ((cost < cost[i]) & (filled >= filled[:, [i]])) | ((cost <= cost[i]) & (filled > filled[:, [i]]))
        dominated[:, i] = better.any(1)
    return ~dominated & ~np.isnan(scores)


def _dominates(cost: Floats, score: Floats, i: int) -> Bools:
    no_worse = (cost <= cost[i]) & (score >= score[i])
    dominates: Bools = no_worse & ((cost < cost[i]) | (score > score[i]))
    return dominates
