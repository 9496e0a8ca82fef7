"""Vectors of (query, key) pairs, made for a few key columns at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# What intermediate results of one chunk may take: on a CPU about what its caches hold.
MEMORY = {"cpu": 2**23, "cuda": 2**30}


@dataclass(frozen=True)
class Attending:
    """The attention of one layer from R asked queries to all keys of a batch.

    weights: [B, H, R, N]; positions: [B, R] of the queries; pairs: bool [B, R, N], those to compute.
    """

    weights: Tensor
    positions: Tensor
    pairs: Tensor

    def chunks(self, floats_per_pair: int, memory: int | None = None) -> Iterator[Chunk]:
        """The pairs, a few key columns at a time, so that a chunk's vectors stay within `memory` bytes."""
        batch, _, n_queries, length = self.weights.shape
        budget = memory or MEMORY.get(self.weights.device.type, MEMORY["cuda"])
        size = max(1, budget // (max(1, n_queries) * floats_per_pair * self.weights.element_size()))
        weights = self.weights.permute(0, 3, 2, 1).reshape(batch * length, n_queries, -1)
        pairs = self.pairs.transpose(1, 2).reshape(batch * length, n_queries)
        own = self.positions[:, None] == torch.arange(length, device=pairs.device)[:, None]
        own = own.reshape(batch * length, n_queries)
        example = torch.arange(batch, device=pairs.device).repeat_interleave(length)
        for start in range(0, batch * length, size):
            columns = slice(start, start + size)
            asked = pairs[columns].any(0).nonzero()
            if len(asked):
                rows = slice(int(asked[0]), int(asked[-1]) + 1)
                queries = example[columns, None] * n_queries + torch.arange(n_queries, device=pairs.device)[rows]
                yield Chunk(
                    columns, weights[columns, rows], queries.flatten(), pairs[columns, rows], own[columns, rows]
                )

    def gather(self, rows: Tensor) -> Tensor:
        """[B * R, D] the queries' rows of [B, N, D]."""
        return rows.gather(1, self.positions[..., None].expand(-1, -1, rows.shape[2])).flatten(0, 1)

    def matrix(self, found: Iterator[tuple[Chunk, Tensor]]) -> Tensor:
        """[B, R, N] of what was found for each pair of each chunk; other pairs are 0."""
        batch, _, n_queries, length = self.weights.shape
        result = torch.zeros(batch * n_queries, length, dtype=self.weights.dtype, device=self.weights.device)
        for chunk, values in found:
            result[chunk.queries, chunk.keys % length] = values
        return result.view(batch, n_queries, length)


class Chunk:
    """S key columns and the T queries that see one of them; P of the pairs are wanted.

    columns: of the B * N keys; queries: [P] and keys: [P], flat; own: bool [P], whether a token meets itself.
    """

    def __init__(self, columns: slice, weights: Tensor, queries: Tensor, pairs: Tensor, own: Tensor) -> None:
        self.columns, self._weights, self._queries = columns, weights, queries
        wanted = pairs.flatten().nonzero().squeeze(1)
        self._wanted = None if len(wanted) == pairs.numel() else wanted
        self.queries, self.own = self._select(queries), self._select(own.flatten())
        self.keys = columns.start + wanted // pairs.shape[1]

    def mixed(self, carried: Tensor) -> Tensor:
        """[P, X] what each query takes from each key: the heads' `carried` [S, H, X], weighted by attention."""
        return self._select(torch.bmm(self._weights, carried).flatten(0, 1))

    def without(self, whole: Tensor, carried: Tensor) -> Tensor:
        """[P, X] `whole` [B * R, X] of each query without what it takes from each key, as in `mixed`."""
        left = whole.index_select(0, self._queries).view(*self._weights.shape[:2], -1)
        return self._select(left.baddbmm_(self._weights, carried, alpha=-1).flatten(0, 1))

    def _select(self, x: Tensor) -> Tensor:
        return x if self._wanted is None else x.index_select(0, self._wanted)
