"""What a model that carries patterns does to each layer's attention scores, whichever function computes them."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol

from torch import Tensor

Scale = float | Tensor


class Edits(Protocol):
    """Of one forward. Each attention of it asks once, in the order in which layers run."""

    def next(self, scores: Tensor, scale: Scale, mask: Tensor | None) -> tuple[Scale, Tensor | None]:
        """Scale and mask for scores [B, H, N, N]: a scale of 0 takes content out of a row, -inf masks a key."""

    def dropped_out(self, attention: Tensor, scale: Scale, rate: float) -> Tensor:
        """Attention [B, H, N, N] of the layer with this scale, in training."""


current: ContextVar[Edits | None] = ContextVar("edits", default=None)


def edited(scores: Tensor, scale: float, mask: Tensor | None) -> tuple[Scale, Tensor | None]:
    """Scale and mask of the next layer; those given where the model carries no patterns."""
    edits = current.get()
    return (scale, mask) if edits is None else edits.next(scores, scale, mask)
