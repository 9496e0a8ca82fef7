"""One layer of a capture as the mixing methods read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from attribution.capture import Capture
from attribution.errors import InputError
from attribution.mixing.pairs import Attending, Block
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
        """[B, R, N, H]; queries on padding attend to nothing."""
        whole = self.capture.attention[self.index].to(self._dtype).permute(0, 2, 3, 1)
        rows = self.positions[..., None, None].expand(-1, -1, *whole.shape[2:])
        return whole.gather(1, rows) * self.visible[..., None, None]

    @cached_property
    def visible(self) -> Tensor:
        """Bool [B, R]: queries that are not padding."""
        return self.capture.visible.gather(1, self.positions)

    @cached_property
    def values(self) -> Tensor:
        """[H, B, N, d]."""
        return self.capture.values[self.index].to(self._dtype).transpose(0, 1)

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

    def at_queries(self, rows: Tensor) -> Tensor:
        """[B, R, D] the queries' rows of [B, N, D]."""
        return rows.gather(1, self.positions[..., None].expand(-1, -1, rows.shape[2]))

    def attending(self, weights: Tensor, *, to_itself: bool) -> Attending:
        """All pairs that one of the weights [B, R, N, H] is for, and those of a token with itself if asked for."""
        pairs = weights.ne(0).any(-1)
        return Attending(weights, pairs | self.itself if to_itself else pairs)

    @cached_property
    def itself(self) -> Tensor:
        """Bool [B, R, N]: where query and key are the same token."""
        keys = torch.arange(self.capture.visible.shape[1], device=self.positions.device)
        return (self.positions[..., None] == keys) & self.visible[..., None]

    def carried(self, block: Block, heads: Tensor, constant: Tensor | None = None) -> Tensor:
        """[b * S, H, X] values of the block's keys through `heads` [H, d, X]; [.., H + 1, X] with a constant [X]."""
        values = self.values[:, block.examples, block.keys].flatten(1, 2)
        n_heads, n_keys = values.shape[:2]
        found = values.new_empty(n_heads + (constant is not None), n_keys, heads.shape[2])
        torch.bmm(values, heads, out=found[:n_heads])
        if constant is not None:
            found[n_heads] = constant
        return found.transpose(0, 1)

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
