"""From a value of each example to one of each head: sums over examples, what becomes of them, and their intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

RESAMPLES, CONFIDENCE = 1000, 0.95


@dataclass(frozen=True)
class Totals:
    """Sums over examples, of one sample of them or of several at once ([...] is [] or [R])."""

    values: Tensor  # [..., L, H]
    examples: Tensor  # [...]
    tokens: Tensor  # [...]
    reads_first: bool  # what is explained reads the first token of the last layer alone


Finish = Callable[[Totals], Tensor]


@dataclass(frozen=True)
class Units:
    """What is resampled, examples or batches of them: a value of each head, and how much text it stands for."""

    values: Tensor  # [U, L, H] float64
    examples: Tensor  # [U] float64
    tokens: Tensor  # [U] float64
    reads_first: bool

    def totals(self, weights: Tensor) -> Totals:
        """Sums with these weights, [U] or [R, U]."""
        values = (weights @ self.values.flatten(1)).view(*weights.shape[:-1], *self.values.shape[1:])
        return Totals(values, weights @ self.examples, weights @ self.tokens, self.reads_first)

    def by_batch(self, batch: Tensor) -> Units:
        """Signed sums over the units with the same number in `batch` [U]."""
        index = torch.unique(batch, return_inverse=True)[1]
        together = torch.nn.functional.one_hot(index).double().T
        total = self.totals(together)
        return Units(total.values, total.examples, total.tokens, self.reads_first)

    def resampled(self, finish: Finish, seed: int = 0) -> Tensor:
        """[L, H, 2] percentile bootstrap interval of `finish`; NaN for fewer than two units."""
        size = len(self.values)
        if size < 2:
            return torch.full((*self.values.shape[1:], 2), torch.nan, dtype=torch.float64)
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randint(size, (RESAMPLES, size), generator=generator)
        weights = torch.zeros(RESAMPLES, size, dtype=torch.float64).scatter_add_(
            1, drawn, torch.ones(drawn.shape, dtype=torch.float64)
        )
        tail = (1 - CONFIDENCE) / 2
        ends = torch.tensor([tail, 1 - tail], dtype=torch.float64)
        return finish(self.totals(weights)).quantile(ends, dim=0).movedim(0, -1)


def mean(total: Totals) -> Tensor:
    """Over examples."""
    return total.values / _wide(total.examples)


def share_of_layer(total: Totals) -> Tensor:
    """Mean over examples in parts of its layer: magnitudes of a layer's heads sum to 1, signs are kept."""
    found = mean(total)
    return found / found.abs().sum(-1, keepdim=True).clamp(min=torch.finfo(found.dtype).tiny)


def per_token(total: Totals) -> Tensor:
    """Per token, the last layer per example where its first token alone is read; each layer of Euclidean length 1."""
    found = total.values / _wide(total.tokens)
    if total.reads_first:
        last = total.values[..., -1:, :] / _wide(total.examples)
        found = torch.cat((found[..., :-1, :], last), -2)
    return _unit_layers(found)


def per_token_to_one(total: Totals) -> Tensor:
    """Per token, each layer of Euclidean length 1, then all heads from 0 to 1."""
    found = _unit_layers(total.values / _wide(total.tokens))
    low, high = found.amin((-2, -1), keepdim=True), found.amax((-2, -1), keepdim=True)
    return (found - low) / (high - low).clamp(min=torch.finfo(found.dtype).tiny)


def _unit_layers(values: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
    return values / (length + 1e-20)


def _wide(count: Tensor) -> Tensor:
    return count[..., None, None]
