"""Importance of a head as how probable it is that a gate on it stays open, trained on several parts of the texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from attribution.heads.head_pass import HeadPass
from attribution.heads.l0_gates import PENALTY, RATE, trained
from attribution.heads.regroup import keys_of, regrouped
from attribution.heads.rows import Rows

PARTS, STEPS, BATCH = 4, 60, 8


def open_gates(
    rows: Sequence[Rows],
    *,
    parts: int = PARTS,
    steps: int = STEPS,
    batch: int = BATCH,
    penalty: float = PENALTY,
    rate: float = RATE,
    seed: int = 0,
) -> Callable[[HeadPass], Tensor]:
    """What reads [B, L, H] how probable it is that each gate is open, trained on the part that an example is in.

    Gates are trained on each part by itself, with noise of its own: `steps` steps of `batch` examples. Rankings of
    two sets of parts are then of other texts and other seeds.
    """
    part, keys = parts_of(rows, parts=parts, seed=seed), keys_of(rows, seed)
    found = [
        trained(_passes(rows, keys, part == number, batch), penalty=penalty, steps=steps, rate=rate, seed=own)
        for number, own in enumerate(range(seed * parts, seed * parts + int(part.max()) + 1))
    ]
    probable = torch.stack([each.p_open for each in found])[part]
    return lambda own: probable[own.rows.first : own.rows.first + len(own.logits)]


def parts_of(rows: Sequence[Rows], *, parts: int = PARTS, seed: int = 0, **_: object) -> Tensor:
    """[B] the number of the part that each example is in; parts of one size, drawn by what the examples say."""
    order = keys_of(rows, seed).argsort(stable=True)
    part: Tensor = order.argsort() % parts
    return part


def _passes(rows: Sequence[Rows], keys: Tensor, members: Tensor, batch: int) -> list[Rows]:
    """The members, `batch` at a time, in an order that does not follow from their batches."""
    numbers = members.nonzero()[:, 0]
    ordered: list[int] = numbers[keys[numbers].argsort(stable=True)].tolist()
    return regrouped(rows, [ordered[start : start + batch] for start in range(0, len(ordered), batch)])
