"""How often each head's answer lies at each offset, as counts that add up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

from attribution.heads.roles import answer
from attribution.model.inputs import Inputs

if TYPE_CHECKING:
    from attribution.model.adapter import ModelAdapter


@dataclass(frozen=True)
class OffsetCounts:
    """Rows by offset = key - query; the last dimension is centred on offset 0. Counts of texts add up.

    `hits` [L, H, 2N-1]: rows whose answer lies at the offset; `neighbours` [2N-1]: rows that have a neighbour there.
    """

    hits: Tensor
    neighbours: Tensor
    rows: int

    @classmethod
    def none(cls, layers: int, heads: int) -> OffsetCounts:
        """Nothing counted yet."""
        return cls(torch.zeros(layers, heads, 1, dtype=torch.long), torch.zeros(1, dtype=torch.long), 0)

    @property
    def reach(self) -> int:
        """The largest offset; the column of offset 0."""
        return self.neighbours.shape[0] // 2

    def __add__(self, other: OffsetCounts) -> OffsetCounts:
        reach = max(self.reach, other.reach)
        a, b = self._reaching(reach), other._reaching(reach)
        return OffsetCounts(a.hits + b.hits, a.neighbours + b.neighbours, a.rows + b.rows)

    def _reaching(self, reach: int) -> OffsetCounts:
        margin = (reach - self.reach,) * 2
        return OffsetCounts(pad(self.hits, margin), pad(self.neighbours, margin), self.rows)


def count_positional(adapter: ModelAdapter, batches: Iterable[Mapping[str, Tensor]]) -> OffsetCounts:
    """The counts of all batches, as a tokenizer returns them."""
    total = OffsetCounts.none(adapter.n_layers, adapter.n_heads)
    for batch in batches:
        inputs = Inputs.from_mapping(batch).to(adapter.device)
        total += count_offsets(adapter.attentions(inputs), inputs.attention_mask.bool())
    return total


def count_offsets(attentions: list[Tensor], real: Tensor) -> OffsetCounts:
    """The counts of one batch: attention L x [B, H, N, N]; `real` [B, N] is False at padding, on either side."""
    place = torch.arange(real.shape[1], device=real.device)
    offset = (place[None, :] - place[:, None] + real.shape[1] - 1).expand(len(real), -1, -1)
    pairs = real[:, :, None] & real[:, None, :]
    neighbours = torch.bincount(offset[pairs], minlength=2 * real.shape[1] - 1)
    hits = torch.stack([_offset_hits(attention, real) for attention in attentions])
    return OffsetCounts(hits.cpu(), neighbours.cpu(), int(real.sum()))


def _offset_hits(attention: Tensor, real: Tensor) -> Tensor:
    """Rows of each head by the offset of their answer: [B, H, N, N] -> [H, 2N-1]."""
    heads, length = attention.shape[1:3]
    target = answer(attention.masked_fill(~real[:, None, None, :], 0))
    place, head = torch.arange(length, device=real.device), torch.arange(heads, device=real.device)
    column = target - place + length - 1 + head[:, None] * (2 * length - 1)
    counted = (target >= 0) & real[:, None, :]
    return torch.bincount(column[counted], minlength=heads * (2 * length - 1)).view(heads, -1)
