"""Vectors of (query, key) pairs, made for one block of them at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Bytes that the vectors of one block may take.
MEMORY = {"cpu": 2**26, "cuda": 2**30}


@dataclass(frozen=True)
class Attending:
    """The attention of one layer from R asked queries to all keys of a batch.

    weights: [B, R, N, H]; pairs: bool [B, R, N], those to compute.
    """

    weights: Tensor
    pairs: Tensor

    def blocks(self, floats_per_pair: int, memory: int | None = None) -> Iterator[Block]:
        """The pairs in blocks whose vectors stay within `memory` bytes: whole examples, or a few keys of one."""
        batch, n_queries, length, _ = self.weights.shape
        budget = memory or MEMORY.get(self.weights.device.type, MEMORY["cuda"])
        n_keys = budget // (max(1, n_queries) * floats_per_pair * self.weights.element_size())
        for examples in _slices(batch, n_keys // length):
            for keys in _slices(length, n_keys):
                asked = self.pairs[examples, :, keys].any(2).any(0).nonzero()
                if len(asked):
                    yield Block(self, examples, slice(int(asked[0]), int(asked[-1]) + 1), keys)

    def matrix(self, found: Iterable[tuple[Block, Tensor]]) -> Tensor:
        """[B, R, N] of what was found for the pairs of each block; other pairs are 0."""
        result = torch.zeros_like(self.weights[..., 0])
        for block, values in found:
            block.place(values, result)
        return result


class Block:
    """Some examples, queries and keys, b x T x S of them; P of the pairs are wanted."""

    def __init__(self, attending: Attending, examples: slice, queries: slice, keys: slice) -> None:
        self.examples, self.queries, self.keys = examples, queries, keys
        self.weights = attending.weights[examples, queries, keys].transpose(1, 2).contiguous()  # [b, S, T, H]
        self._wanted = attending.pairs[examples, queries, keys].transpose(1, 2)
        self._all = bool(self._wanted.all())

    def mixed(self, weights: Tensor, carried: Tensor) -> Tensor:
        """[b, S, T, X] the heads' `carried` [b * S, H, X], weighted by [b, S, T, H]."""
        shape = weights.shape
        return torch.bmm(weights.flatten(0, 1), carried).view(*shape[:3], -1)

    def of_queries(self, table: Tensor) -> Tensor:
        """[b, 1, T, X] of a table [B, R, X], to stand beside pairs."""
        return table[self.examples, None, self.queries]

    def wanted(self, x: Tensor) -> Tensor:
        """[P, X] the wanted ones of [b, S, T, X], key by key; [b, 1, T, X] is repeated for every key."""
        batch, n_keys, n_queries = self._wanted.shape
        x = x.expand(batch, n_keys, n_queries, x.shape[-1])
        return x.reshape(-1, x.shape[-1]) if self._all else x[self._wanted]

    def place(self, values: Tensor, matrix: Tensor) -> None:
        """Write values [P] of the wanted pairs, key by key, into [B, R, N]."""
        matrix[self.examples, self.queries, self.keys].transpose(1, 2)[self._wanted] = values


def _slices(length: int, size: int) -> Iterator[slice]:
    step = max(1, size)
    return (slice(start, min(start + step, length)) for start in range(0, length, step))
