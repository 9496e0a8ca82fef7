"""Projected attention layers: a narrow attention beside each block of a trained model, whose heads follow patterns.

Source: Stickland & Murray 2019 (PALs); Li et al. 2022 for the patterns in them. Their released code starts with every
weight at zero, from where only the bias of the last map can learn; here the map back up alone is zero, so that the
model starts unchanged and everything else has a gradient after the first step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attribution.errors import InputError
from attribution.model.attention import Recorder, softmax
from attribution.patterns.rows import RunningPatterns
from attribution.patterns.schema import Projection
from attribution.relevance.node import Kind


class ProjectedAttention(nn.Module):
    """gelu(up(heads(down(x)))): [B, N, D] -> [B, N, D], through `width` dimensions in `heads` heads."""

    def __init__(self, outer: int, size: Projection) -> None:
        super().__init__()
        if size.width % size.heads:
            raise InputError(f"conf error: inject.pal.width={size.width} is not a multiple of its heads={size.heads}.")
        self.heads = size.heads
        self.down, self.up = nn.Linear(outer, size.width), nn.Linear(size.width, outer)
        self.query, self.key, self.value = (nn.Linear(size.width, size.width) for _ in range(3))
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        for parameter in self.parameters():
            parameter._is_hf_initialized = True  # type: ignore[attr-defined]  # or the model would draw it anew

    def forward(self, hidden: Tensor, heads: dict[int, str], running: RunningPatterns) -> Tensor:
        """What is added beside the block that `hidden` enters; `heads`: patterns by the number of the head."""
        narrow = self.down(hidden)
        query, key, value = (
            project(narrow).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        record = Recorder.beside(self)
        scores = record(Kind.SCORES, lambda q, k: q @ k.transpose(-1, -2))(query, key)
        visible = _mask(running.tokens.visible, scores.dtype)
        scale, mask = running.applied(heads, scores, query.shape[-1] ** -0.5, visible)
        attention = record(Kind.SOFTMAX, lambda s: softmax(s, scale, mask), scaling=scale, mask=mask)(scores)
        mixed = record(Kind.MIX, lambda a, v: a @ v)(attention, value)
        return F.gelu(self.up(mixed.transpose(1, 2).flatten(2)))


def _mask(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """[B, 1, N, N]: the lowest number where a token does not see another."""
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(~visible, torch.finfo(dtype).min)[
        :, None
    ]
