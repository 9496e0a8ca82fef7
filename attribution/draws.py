"""Random numbers of each example, from its own tokens and a seed: the same whatever its batch, padding or device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_ODD = 0x9E3779B97F4A7C1  # steps far apart between neighbouring counters
_BITS = 53  # of a float64


def example_keys(input_ids: Tensor, visible: Tensor, seed: int) -> Tensor:
    """A key [B] of each row's visible tokens and their places, and of the seed."""
    position = torch.arange(input_ids.shape[1], device=input_ids.device)
    row = (_mix(input_ids * 1_000_003 + position) * visible).sum(1)
    return row + _mix(torch.full_like(row, seed))


def uniform(keys: Tensor, *axes: int | Tensor) -> Tensor:
    """Float64 in [0, 1), [B, *axes]: an axis is a length, or the indexes wanted of it, which do not change by that."""
    mixed = keys
    for axis in axes:
        index = torch.arange(axis, device=keys.device) if isinstance(axis, int) else axis
        mixed = _mix(mixed[..., None] + index * _ODD)
    return _shifted(mixed, 64 - _BITS).to(torch.float64) / float(1 << _BITS)


def normal(keys: Tensor, *axes: int | Tensor) -> Tensor:
    """Standard normal float64 [B, *axes], by Box and Muller."""
    radius = (-2 * (1 - uniform(_mix(keys + 1), *axes)).log()).sqrt()
    angle = 2 * math.pi * uniform(_mix(keys + 2), *axes)
    return radius * angle.cos()


def ranks(keys: Tensor, members: Tensor, *axes: int | Tensor) -> Tensor:
    """Place of each member in a random order: [B, *axes, U] for `members` bool [B, U]; the others come last."""
    between = [1] * len(axes)
    outside = ~members.view(len(members), *between, -1)
    return (
        uniform(keys, *axes, members.shape[1]).masked_fill(outside, torch.inf).argsort(dim=-1, stable=True).argsort(-1)
    )


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64, wrapping around."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        x = (x ^ _shifted(x, shift)) * factor
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, by: int) -> Tensor:
    """Logical right shift of int64."""
    return (x >> by) & ((1 << (64 - by)) - 1)
