"""Yardsticks: what scores look like that know nothing of the model."""

from __future__ import annotations

import torch
from torch import Tensor

from attribution.capture import Capture, Need
from attribution.methods.registry import register


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64, wrapping around."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        x = (x ^ _shifted(x, shift)) * factor
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, by: int) -> Tensor:
    """Logical right shift of int64."""
    return (x >> by) & ((1 << (64 - by)) - 1)


@register("random", needs=Need.NOTHING, source="uniform noise", class_blind=True, control=True)
def random(capture: Capture, *, seed: int = 0) -> Tensor:
    """Uniform scores in [0, 1) that depend on the seed and the row's tokens alone, not on batch, padding or device."""
    ids, visible = capture.input_ids, capture.visible
    position = torch.arange(ids.shape[1], device=ids.device)
    row = _mix(
        (_mix(ids * 1_000_003 + position) * visible).sum(1, keepdim=True) + _mix(torch.full_like(ids[:, :1], seed))
    )
    return _shifted(_mix(row + position * 0x9E3779B97F4A7C1), 11).to(torch.float64) / 2**53
