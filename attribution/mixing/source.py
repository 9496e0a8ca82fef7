"""One layer of a capture as the mixing methods read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from attribution.capture import Capture
from attribution.errors import InputError
from attribution.mixing.pairs import Attending, Chunk
from attribution.model.layer import Folded, Layer


@dataclass(frozen=True)
class Source:
    """Layer `index` of a capture, for the queries at `positions` [B, R]; tensors in single precision or wider."""

    capture: Capture
    index: int
    positions: Tensor
    final_norm: bool = True

    @cached_property
    def attention(self) -> Tensor:
        """[B, H, R, N]; queries on padding attend to nothing."""
        whole = self.capture.attention[self.index].to(self._dtype)
        rows = self.positions[:, None, :, None].expand(-1, whole.shape[1], -1, whole.shape[3])
        return whole.gather(2, rows) * self.capture.visible.gather(1, self.positions)[:, None, :, None]

    @cached_property
    def values(self) -> Tensor:
        """[H, B * N, d]."""
        return self.capture.values[self.index].to(self._dtype).transpose(0, 1).flatten(1, 2)

    @cached_property
    def sums(self) -> Tensor:
        """[B, N, D] what enters the block plus what its attention gives."""
        return self.capture.trace.sums[self.index].to(self._dtype)

    @cached_property
    def entering(self) -> Tensor:
        """[B, N, D] what enters the block."""
        return self.capture.hidden[self.index].to(self._dtype)

    @cached_property
    def layer(self) -> Layer:
        """What the block does with its sums."""
        return self.capture.trace.adapter.layer(self.index, final_norm=self.final_norm)

    @cached_property
    def folded(self) -> Folded:
        """Its folded projections."""
        return self.capture.trace.adapter.folded(self.index)

    def attending(self, weights: Tensor, *, to_itself: bool) -> Attending:
        """All pairs with weight, and those of a token with itself if asked for."""
        pairs = weights.ne(0).any(1)
        if to_itself:
            length, visible = weights.shape[3], self.capture.visible.gather(1, self.positions)
            own = self.positions[..., None] == torch.arange(length, device=pairs.device)
            pairs = pairs | (own & visible[..., None])
        return Attending(weights, self.positions, pairs)

    def carried(self, chunk: Chunk, heads: Tensor) -> Tensor:
        """[S, H, X] values of the chunk's keys through `heads` [H, d, X]."""
        return torch.bmm(self.values[:, chunk.columns], heads).transpose(0, 1)

    @property
    def _dtype(self) -> torch.dtype:
        return self.capture.trace.adapter.score_dtype


def all_positions(capture: Capture) -> Tensor:
    """[B, N]."""
    batch, length = capture.visible.shape
    return torch.arange(length, device=capture.visible.device).expand(batch, length)


def normalised(matrix: Tensor) -> Tensor:
    """Rows of [.., N] divided by their sums; rows of zeros stay zeros."""
    total = matrix.sum(-1, keepdim=True)
    return matrix / total.masked_fill(total == 0, 1)


def chosen(table: dict[str, Callable[..., Tensor]], name: str, parameter: str) -> Callable[..., Tensor]:
    """The entry of that name; raises `InputError` with the choices."""
    if name not in table:
        raise InputError(f"{parameter}={name} is unknown; choices: {', '.join(table)}")
    return table[name]
