"""What becomes of a prediction without sets of units that no explanation chooses: run once, they serve all methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from attribution.draws import example_keys
from attribution.draws import ranks as random_places
from attribution.methods.units import Units
from attribution.model.inputs import Inputs
from attribution.perturb import PassCounts, Perturbation
from attribution.targets import TargetLike
from evaluation.association import Floats
from evaluation.curves import unit_scores
from evaluation.engine import Run, perturbable_tokens, run_requests
from evaluation.resampling import Resampler, resolved

if TYPE_CHECKING:
    from attribution.explainer import Explainer
    from attribution.model.adapter import ModelAdapter


class Sets(NamedTuple):
    """Units removed bool [B, S, U], which sets there are bool [B, S], and the group of each, [S]."""

    removed: Tensor
    asked: Tensor
    group: Tensor


def each_unit(units: Units, keys: Tensor, request: RemovalRequest) -> Sets:
    """Every unit alone."""
    eye = torch.eye(units.members.shape[1], dtype=torch.bool, device=units.ids.device)
    removed = eye[None] & units.members[..., None]
    return Sets(removed, units.members, torch.zeros(len(eye), dtype=torch.long))


def random_sets(units: Units, keys: Tensor, request: RemovalRequest) -> Sets:
    """`number` random sets of each size, a share of the units of a text: at least two of them, never all.

    Texts of one unit have none; of two, sets of one.
    """
    drawn, asked = [], []
    for place, share in enumerate(request.sizes):
        size = torch.minimum((share * units.count).round().clamp(min=2), units.count - 1)[:, None, None]
        drawn.append(random_places(keys + place, units.members, request.number) < size)
        asked.append((size[:, 0] > 0).expand(-1, request.number))
    group = torch.arange(len(request.sizes)).repeat_interleave(request.number)
    return Sets(torch.cat(drawn, 1) & units.members[:, None], torch.cat(asked, 1), group)


@dataclass(frozen=True)
class RemovalRequest:
    """Copies without sets of units; `unit` is token, word or sentence."""

    sets: Callable[[Units, Tensor, RemovalRequest], Sets] = each_unit
    number: int = 100
    sizes: Sequence[float] = (0.2,)
    operator: str | None = None
    unit: str = "token"
    aggregation: str = "sum"
    seed: int = 0

    def plan(self, adapter: ModelAdapter, inputs: Inputs) -> RemovalPlan:
        """Which tokens each set touches."""
        units = Units.among(inputs, perturbable_tokens(adapter, inputs), self.unit)
        keys = example_keys(inputs.input_ids, inputs.attention_mask.bool(), self.seed)
        sets = self.sets(units, keys, self)
        operator = resolved(adapter, self.operator)
        if operator == "delete":  # a text that is nothing but its units has to keep one
            bare = inputs.attention_mask.bool().sum(1) == (units.ids >= 0).sum(1)
            empties = (sets.removed.sum(2) == units.count[:, None]) & bare[:, None]
            sets = sets._replace(asked=sets.asked & ~empties)
        return RemovalPlan(self, operator, units, sets)


REMOVALS = {
    "leave_one_out": RemovalRequest(each_unit),
    "random_subsets": RemovalRequest(random_sets),
    "subsets_by_size": RemovalRequest(random_sets, number=20, sizes=(0.1, 0.3, 0.5, 0.7, 0.9)),
}


@dataclass(frozen=True)
class Removals:
    """The target's output without each of S sets of units, for B rows. T = 1, or start and end.

    A set that is not `asked` is NaN.
    """

    units: Units
    removed: Tensor  # bool [B, S, U]
    asked: Tensor  # bool [B, S]
    group: Tensor  # [S], or [B, S] where rows differ: number of the size that a set was drawn for
    logits: Tensor  # [B, S, T]
    log_probabilities: Tensor  # [B, S, T]
    intact_logits: Tensor  # [B, T]
    intact_log_probabilities: Tensor  # [B, T]
    operator: str = "mask"
    aggregation: str = "sum"
    passes: PassCounts = field(default_factory=PassCounts)

    def drops(self, output: str = "probability") -> Tensor:
        """f(x) - f(x without the set), the mean over start and end: float64 [B, S]; output: probability or logit."""
        if output == "logit":
            found, intact = self.logits.double(), self.intact_logits.double()
        else:
            found, intact = self.log_probabilities.double().exp(), self.intact_log_probabilities.double().exp()
        return (intact[:, None] - found).mean(-1)

    def examples(self, scores: Tensor, output: str = "probability") -> Iterator[Effects]:
        """What each example's metric is computed from: its own numbers alone."""
        scores = scores.to(self.units.ids.device)
        values = unit_scores(scores.double(), self.units, self.aggregation).cpu().numpy()
        spoilt = (scores.isnan() & (self.units.ids >= 0)).any(1)
        drops, removed, asked = (each.cpu().numpy() for each in (self.drops(output), self.removed, self.asked))
        groups = self.group.cpu().expand(asked.shape).numpy()
        for row, n in enumerate(self.units.count.tolist()):
            own, sets = values[row, :n], asked[row]
            if spoilt[row] or not np.isfinite(drops[row, sets]).all():
                own = np.full(n, np.nan)
            yield Effects(own, removed[row][sets][:, :n], drops[row, sets], groups[row, sets])


class Effects(NamedTuple):
    """Of one example: scores [n] of its units, sets of them bool [S, n], what removing each set costs, its group."""

    scores: Floats
    removed: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
    drops: Floats
    group: np.ndarray[tuple[int, ...], np.dtype[np.int64]]

    @property
    def sums(self) -> Floats:
        """Scores of each set together, [S]."""
        found: Floats = (self.removed * self.scores).sum(1)
        return found


@dataclass(frozen=True)
class RemovalPlan:
    """A request with its operator, units and sets."""

    request: RemovalRequest
    operator: str
    units: Units
    sets: Sets

    def perturbation(self) -> Perturbation:
        """The sets that are asked for."""
        rows, slots = self.sets.asked.nonzero(as_tuple=True)
        touched = self.units.tokens(self.sets.removed)[rows, slots]
        return Perturbation(rows, touched, self.operator)

    def result(self, read: Tensor, run: Run) -> Removals:
        """What was read of the sets asked for [R, 3, C], in its place."""
        rows, slots = self.sets.asked.nonzero(as_tuple=True)
        every = read.new_full((*self.sets.asked.shape, *read.shape[1:]), torch.nan)
        every[rows, slots] = read
        found, intact = run.of_target(every), run.of_target(run.intact)
        return Removals(
            self.units,
            *self.sets,
            logits=found[:, :, 0],
            log_probabilities=found[:, :, 1],
            intact_logits=intact[:, 0],
            intact_log_probabilities=intact[:, 1],
            operator=self.operator,
            aggregation=self.request.aggregation,
            passes=run.passes,
        )


def removal_effects(
    explainer: Explainer,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    sets: str | RemovalRequest = "leave_one_out",
    target: TargetLike = None,
    operator: str | None = None,
    unit: str = "token",
    seed: int = 0,
    batch_tokens: int | None = None,
    resampler: Resampler | None = None,
    **rest: Tensor | None,
) -> Removals:
    """The effects of removing sets of units: each alone (`leave_one_out`), `random_subsets`, or `subsets_by_size`.

    rest: token_type_ids, position_ids, special_tokens_mask, word_ids, sentence_ids, all [B, N].
    """
    request = sets if isinstance(sets, RemovalRequest) else REMOVALS[sets]
    asked = replace(request, operator=operator, unit=unit, seed=seed)
    inputs = Inputs.of(input_ids, attention_mask, **rest)
    options = {"batch_tokens": batch_tokens, "resampler": resampler}
    found: Removals = run_requests(explainer, inputs, {"": asked}, target=target, **options)[""]  # type: ignore[arg-type]
    return found
