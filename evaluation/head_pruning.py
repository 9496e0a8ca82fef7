"""What a ranking of heads is worth: heads removed in its order, and in the opposite one, against random orders.

Michel et al. 2019's protocol, without retraining: a good ranking loses little while it removes what it calls least
important, and much when it begins with the most important.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from attribution.errors import InputError
from attribution.heads.outputs import gated, head_outputs
from attribution.heads.rows import Rows, decided, intact, loss_of, rows_of
from attribution.model.adapter import frozen
from attribution.targets import Part
from evaluation.statistics.intervals import Interval, paired_difference

if TYPE_CHECKING:
    from attribution.explainer import Explainer

FRACTIONS = tuple(step / 20 for step in range(21))  # 0, 5, ..., 100 % of the heads
RANDOM_ORDERS = 5
LEAST_FIRST, MOST_FIRST = "least_first", "most_first"
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class PruningCurve:
    """One order of removal. `decided`: whether the label, or what the intact model predicts, is still predicted."""

    removed: Tensor  # [K] number of heads removed, from 0
    loss: Tensor  # [K, B] float64
    decided: Tensor  # [K, B] float64, 0 or 1

    def area(self, measure: str = "decided") -> Tensor:
        """[B] mean height of each example's curve over the share of heads removed (trapezoids)."""
        heights = {"loss": self.loss, "decided": self.decided}[measure]
        return torch.trapezoid(heights, self.removed.double() / self.removed[-1], dim=0)


@dataclass(frozen=True)
class PruningCurves:
    """Curves of a ranking, both ways, and of the random orders."""

    least_first: PruningCurve
    most_first: PruningCurve
    random: list[PruningCurve]

    def against_random(self, measure: str = "decided") -> dict[str, Interval]:
        """Area of each way less the mean area of the random orders, with intervals over examples, by way.

        Of a good ranking `least_first` lies above 0 for `decided` and below for `loss`, `most_first` the other way.
        """
        chance = torch.stack([curve.area(measure) for curve in self.random]).mean(0)
        return {way: paired_difference(curve.area(measure), chance) for way, curve in self.ways.items()}

    @property
    def ways(self) -> dict[str, PruningCurve]:
        """Both curves of the ranking."""
        return {LEAST_FIRST: self.least_first, MOST_FIRST: self.most_first}

    def beaten(self, measure: str = "decided", way: str = LEAST_FIRST) -> int:
        """How many of the random orders are worse: lose more than `least_first` does, or less than `most_first`."""
        loses_more = (measure == "loss") == (way == LEAST_FIRST)
        own = self.ways[way].area(measure).mean()
        areas = torch.stack([curve.area(measure).mean() for curve in self.random])
        return int((areas > own if loses_more else areas < own).sum())


def pruning_curves(
    explainer: Explainer,
    batches: Iterable[Mapping[str, Tensor]],
    rankings: Mapping[str, Tensor],
    *,
    fractions: Sequence[float] = FRACTIONS,
    seeds: Sequence[int] = range(RANDOM_ORDERS),
    keep_one: bool = False,
) -> dict[str, PruningCurves]:
    """Curves of rankings {name: scores [L, H]}, larger is more important; equal scores are removed in random order.

    What is judged is the loss of `labels`, or of the intact model's own predictions where batches have none. Random
    orders are shared by all rankings, as is every set of heads that several orders come by. keep_one: the last head of
    a layer stays.
    """
    shape = (explainer.adapter.n_layers, explainer.adapter.n_heads)
    for name, scores in rankings.items():
        if tuple(scores.shape) != shape or not bool(scores.isfinite().all()):
            raise InputError(f"ranking {name}: finite scores {list(shape)} are needed, not {list(scores.shape)}")
    orders: dict[tuple[str, str | int], list[int]] = {
        (name, way): order for name, each in rankings.items() for way, order in both_ways(each).items()
    }
    orders |= {("random", seed): random_order(shape, seed) for seed in seeds}
    kept = {key: _keeping_one(order, shape) if keep_one else order for key, order in orders.items()}
    found = curves_of_orders(explainer, batches, kept, fractions=fractions)
    chance = [found["random", seed] for seed in seeds]
    return {name: PruningCurves(found[name, LEAST_FIRST], found[name, MOST_FIRST], chance) for name in rankings}


def curves_of_orders(
    explainer: Explainer,
    batches: Iterable[Mapping[str, Tensor]],
    orders: Mapping[Key, Sequence[int]],
    *,
    fractions: Sequence[float] = FRACTIONS,
) -> dict[Key, PruningCurve]:
    """The curve of each order in which heads, by their flat numbers, are removed."""
    runs = _Runs.over(explainer, batches)
    shape = (explainer.adapter.n_layers, explainer.adapter.n_heads)
    return {key: runs.curve(order, shape, fractions) for key, order in orders.items()}


def both_ways(scores: Tensor) -> dict[str, list[int]]:
    """The orders of removal that a ranking gives."""
    order = removal_order(scores)
    return {LEAST_FIRST: order, MOST_FIRST: order[::-1]}


def one_head_left(
    explainer: Explainer, batches: Iterable[Mapping[str, Tensor]], scores: Tensor
) -> tuple[Tensor, Tensor]:
    """Loss and decisions, each [L, B], where of one layer only the head with the highest score is left."""
    runs, best = _Runs.over(explainer, batches), scores.argmax(1)
    each = []
    for layer, head in enumerate(best.tolist()):
        gates = torch.ones(scores.shape, dtype=torch.bool)
        gates[layer] = False
        gates[layer, head] = True
        each.append(runs.without(gates))
    return torch.stack([loss for loss, _ in each]), torch.stack([right for _, right in each])


def removal_order(scores: Tensor) -> list[int]:
    """Flat numbers of the heads, least important first; ties in random order, else the first layers would go first."""
    flat = scores.flatten().double().cpu()
    shuffled = torch.randperm(len(flat), generator=torch.Generator().manual_seed(0))
    order: list[int] = shuffled[flat[shuffled].argsort(stable=True)].tolist()
    return order


def random_order(shape: tuple[int, int], seed: int) -> list[int]:
    """A random order of all heads."""
    order: list[int] = torch.randperm(shape[0] * shape[1], generator=torch.Generator().manual_seed(seed)).tolist()
    return order


def _keeping_one(order: list[int], shape: tuple[int, int]) -> list[int]:
    """The order without the head of each layer that would go last."""
    last = {head // shape[1]: head for head in order}
    return [head for head in order if head not in last.values()]


@dataclass
class _Runs:
    """The examples, what is asked of them, and what every set of heads gave so far."""

    rows: list[Rows]
    asked: list[list[Part]]
    known: dict[bytes, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @classmethod
    def over(cls, explainer: Explainer, batches: Iterable[Mapping[str, Tensor]]) -> _Runs:
        rows = list(rows_of(explainer, batches))
        if not rows:
            raise InputError("conf error: heads: there is no text to judge a ranking on; give at least one batch.")
        return cls(rows, [each.parts(intact(each)) for each in rows])

    def curve(self, order: Sequence[int], shape: tuple[int, int], fractions: Sequence[float]) -> PruningCurve:
        removed = sorted({round(fraction * len(order)) for fraction in fractions})
        each = [self.without(gates) for gates in _gates(order, removed, shape)]
        return PruningCurve(
            torch.tensor(removed), torch.stack([loss for loss, _ in each]), torch.stack([right for _, right in each])
        )

    def without(self, gates: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and decisions [B] with only the heads in `gates`, bool [L, H]."""
        key = gates.numpy().tobytes()
        if key not in self.known:
            self.known[key] = self._run(gates)
        return self.known[key]

    def _run(self, gates: Tensor) -> tuple[Tensor, Tensor]:
        losses, right = [], []
        for rows, asked in zip(self.rows, self.asked, strict=True):
            adapter = rows.adapter
            opened = gated(gates.to(adapter.device))
            with torch.inference_mode(), frozen(adapter.model), head_outputs(adapter, opened):
                logits = rows.logits()
            losses.append(loss_of(asked, logits).double().cpu())
            right.append(decided(asked, logits).double().cpu())
        return torch.cat(losses), torch.cat(right)


def _gates(order: Sequence[int], removed: Sequence[int], shape: tuple[int, int]) -> Iterator[Tensor]:
    for number in removed:
        gates = torch.ones(shape[0] * shape[1], dtype=torch.bool)
        gates[order[:number]] = False
        yield gates.view(shape)
