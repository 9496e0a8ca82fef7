"""Are errors corrected when the words that caused them are taken away, and by more than as many random words?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from attribution.draws import ranks as random_places
from attribution.methods.units import Units
from attribution.model.adapter import ModelAdapter
from attribution.model.inputs import Inputs
from attribution.perturb import Perturbation
from evaluation.curves import unit_scores
from evaluation.engine import Run
from evaluation.errors.few import mean_of_errors
from evaluation.levels import ranks
from evaluation.removals import RemovalPlan, RemovalRequest, Sets
from evaluation.statistics.intervals import Interval

NOT_RUN = -1  # the class without a set that is empty, or that would leave nothing of a text


def top_words(scores: Tensor, units: Units, sizes: Sequence[int]) -> Tensor:
    """Bool [B, S, U]: the words of the largest scores [B, N], so many in each set, whatever their sign."""
    found = unit_scores(scores.double(), units, "sum")
    places = ranks(found, units.members)
    return torch.stack([(places < size) & units.members for size in sizes], 1)


@dataclass(frozen=True)
class WordRemovals:
    """Copies without each of the sets of words `chosen` bool [B, S, U], and without `draws` random ones as large.

    U may stop at the last word chosen. The random sets of a text hold one another where their sizes differ, and are the
    same where they do not, so that fewer copies are run.
    """

    chosen: Tensor
    draws: int = 10
    operator: str | None = None
    seed: int = 0

    def plan(self, adapter: ModelAdapter, inputs: Inputs) -> DecisionPlan:
        """Which tokens each set touches; the inputs need `word_ids`."""
        request = RemovalRequest(partial(_with_random, self), operator=self.operator, unit="word", seed=self.seed)
        return DecisionPlan(request.plan(adapter, inputs), self.draws)


def _with_random(removals: WordRemovals, units: Units, keys: Tensor, request: RemovalRequest) -> Sets:
    """The sets and the random ones, S * (1 + draws) of them; those of a set after it."""
    chosen = removals.chosen.to(units.ids.device)
    chosen = F.pad(chosen, (0, units.members.shape[1] - chosen.shape[2])) & units.members[:, None]
    sizes = chosen.sum(2)[..., None, None]
    drawn = random_places(keys, units.members, removals.draws)[:, None] < sizes
    every = torch.cat((chosen[:, :, None], drawn & units.members[:, None, None]), 2).flatten(1, 2)
    return Sets(every, every.any(2), torch.zeros(every.shape[1], dtype=torch.long))


@dataclass(frozen=True)
class DecisionPlan:
    """Removed sets of which the class decided for is read."""

    removal: RemovalPlan
    draws: int

    def perturbation(self) -> Perturbation:
        """The sets that are asked for."""
        return self.removal.perturbation()

    def result(self, read: Tensor, run: Run) -> Decisions:
        """The class of the largest of the logits `read` [R, 3, C], in its place."""
        asked = self.removal.sets.asked
        every = torch.full(asked.shape, NOT_RUN, device=read.device)
        every[asked.nonzero(as_tuple=True)] = read[:, 0].argmax(1)
        classes = every.view(len(asked), -1, 1 + self.draws)
        return Decisions(classes[..., 0], classes[..., 1:], run.intact[:, 0].argmax(1), self.removal.operator)


@dataclass(frozen=True)
class Decisions:
    """The class without each set [B, S], without random ones as large [B, S, D], and of the intact text [B].

    NOT_RUN where a set has no words.
    """

    chosen: Tensor
    random: Tensor
    intact: Tensor
    operator: str


class Corrected(NamedTuple):
    """Shares of the errors that are corrected: without the words, without random ones, and what is between the two."""

    chosen: Interval
    random: Interval
    difference: Interval


def corrected(
    gold: Sequence[int],
    chosen: Sequence[int],
    random: Sequence[Sequence[int]],
    *,
    samples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Corrected:
    """Of errors whose right class is `gold` [n]: classes without a set [n], and without random ones [n, D].

    An error that has none of the words counts as one that is not corrected, without the words and without random ones.
    """
    right = np.asarray(gold)
    own = (np.asarray(chosen) == right).astype(np.float64)
    drawn = np.array([np.mean(np.asarray(each) == g) for g, each in zip(gold, random, strict=True)], dtype=np.float64)
    options = {"samples": samples, "confidence": confidence, "seed": seed}
    return Corrected(*(mean_of_errors(values, **options) for values in (own, drawn, own - drawn)))  # type: ignore[arg-type]
