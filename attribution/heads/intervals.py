"""Confidence intervals of proportions."""

from __future__ import annotations

import torch
from torch import Tensor

Z_95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution


def wilson(proportion: Tensor, count: int) -> Tensor:
    """Wilson's score interval, 95 %: [...] -> [..., 2] (low, high). (0, 1) where nothing was counted. Wilson 1927."""
    if count == 0:
        return torch.stack([torch.zeros_like(proportion), torch.ones_like(proportion)], dim=-1)
    shrink = 1 + Z_95**2 / count
    centre = (proportion + Z_95**2 / (2 * count)) / shrink
    half = Z_95 * (proportion * (1 - proportion) / count + (Z_95 / (2 * count)) ** 2).sqrt() / shrink
    return torch.stack([centre - half, centre + half], dim=-1).clamp(0, 1)
