"""Players of a text: tokens, words or sentences that are there or not, and what the text is worth without some."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from attribution.capture import Capture
from attribution.errors import InputError
from attribution.model.inputs import Inputs
from attribution.perturb import Perturbation, available_operators, distinct_rows, resolve_operator

UNITS = {"token": None, "word": "word_ids", "sentence": "sentence_ids"}
IN_PLACE = ("mask", "pad", "unk")  # preferred here: what is left stays where it was


@dataclass(frozen=True)
class Units:
    """`ids` [B, N]: the unit of each position, numbered from 0 in the order of the text; -1 is never perturbed."""

    ids: Tensor

    @classmethod
    def of(cls, capture: Capture, unit: str) -> Units:
        """The units of the rows; special tokens belong to none."""
        inputs = capture.trace.inputs
        return cls.among(inputs, ~capture.trace.adapter.special_tokens(inputs), unit)

    @classmethod
    def among(cls, inputs: Inputs, content: Tensor, unit: str) -> Units:
        """The units that the tokens `content` bool [B, N] make."""
        if unit not in UNITS:
            raise InputError(f"unit={unit} is unknown; choices: {', '.join(UNITS)}")
        if (name := UNITS[unit]) is None:
            return cls(torch.where(content, content.cumsum(1) - 1, -1))
        if (given := getattr(inputs, name)) is None:
            raise InputError(f"unit={unit} needs {name} [B, N]; explain and the pipeline know them of texts")
        return cls(_renumbered(torch.where(content, given, -1)))

    @cached_property
    def count(self) -> Tensor:
        """[B] how many units each row has."""
        return self.ids.amax(1) + 1

    @cached_property
    def members(self) -> Tensor:
        """Bool [B, U]: the units of each row, U those of the largest, at least 1."""
        return torch.arange(max(1, int(self.count.max())), device=self.ids.device) < self.count[:, None]

    def tokens(self, chosen: Tensor) -> Tensor:
        """The tokens, bool [B, S, N], of chosen units [B, S, U]."""
        none = torch.zeros_like(chosen[..., :1])
        slots = torch.where(self.ids < 0, chosen.shape[2], self.ids)[:, None].expand(-1, chosen.shape[1], -1)
        return torch.cat((chosen, none), 2).gather(2, slots)

    def spread(self, scores: Tensor) -> Tensor:
        """Scores [B, U] as [B, N]: a unit's tokens share its score evenly, so that they add up to it."""
        padded = torch.cat((scores.masked_fill(~self.members, 0), torch.zeros_like(scores[:, :1])), 1)
        slots = torch.where(self.ids < 0, scores.shape[1], self.ids)
        sizes = torch.zeros_like(padded).scatter_add(1, slots, torch.ones_like(slots, dtype=padded.dtype))
        return (padded / sizes.clamp(min=1)).gather(1, slots)


def _renumbered(ids: Tensor) -> Tensor:
    """The same units without gaps in their numbers."""
    slots = torch.where(ids < 0, 0, ids + 1)
    present = torch.zeros(len(ids), int(slots.max()) + 1, dtype=torch.long, device=ids.device).scatter(1, slots, 1)
    present[:, 0] = 0
    return torch.where(ids < 0, -1, present.cumsum(1).gather(1, slots) - 1)


class Worth(NamedTuple):
    """Values [B, S] of coalitions, 0 where none was asked for, and how many different ones each row had run, [B]."""

    values: Tensor
    forwards: Tensor


def worth(
    units: Units, kept: Tensor, operator: str, asked: Tensor | None = None
) -> Generator[Perturbation, Tensor, Worth]:
    """What is explained where only the units `kept` bool [B, S, U] are there; equal coalitions are run once.

    asked: bool [B, S], coalitions that count.
    """
    wanted = torch.ones_like(kept[..., 0]) if asked is None else asked
    rows, slots = wanted.nonzero(as_tuple=True)
    coalitions = kept[rows, slots] | ~units.members[rows]
    first, inverse = distinct_rows(torch.cat((rows[:, None], coalitions), 1))
    absent = torch.cat((~coalitions[first], torch.zeros_like(coalitions[first, :1])), 1)
    ids = units.ids[rows[first]]
    touched = absent.gather(1, torch.where(ids < 0, coalitions.shape[1], ids))
    found = yield Perturbation(rows[first], touched, operator)
    values = found.new_zeros(wanted.shape)
    values[rows, slots] = found[inverse]
    return Worth(values, torch.bincount(rows[first], minlength=len(kept)))


def operator_of(capture: Capture, operator: str | None) -> str:
    """The operator asked for; else the first of IN_PLACE the model can be perturbed with, else deletion."""
    adapter = capture.trace.adapter
    usable = [name for name in IN_PLACE if name in available_operators(adapter)]
    return resolve_operator(adapter, operator if operator is not None else next(iter(usable), None))
