"""Attention as maps to look at: the mean over texts position by position, and one text word by word."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from attribution.errors import InputError
from attribution.model.adapter import align
from attribution.model.inputs import Inputs

if TYPE_CHECKING:
    from attribution.explainer import Explainer
    from attribution.model.adapter import ModelAdapter

LENGTH = 64


@dataclass(frozen=True)
class MeanAttention:
    """Attention of every head added up over texts, from position to position; sums of texts add up."""

    total: Tensor  # [L, H, M, M] float64
    pairs: Tensor  # [M, M] in how many texts both positions are there

    def __add__(self, other: MeanAttention) -> MeanAttention:
        return MeanAttention(self.total + other.total, self.pairs + other.pairs)

    @property
    def mean(self) -> Tensor:
        """[L, H, M, M] over the texts in which both positions are there; 0 where there is none."""
        return self.total / self.pairs.clamp(min=1)


def mean_attention(
    explainer: Explainer, batches: Iterable[Mapping[str, Tensor]], *, length: int = LENGTH
) -> MeanAttention:
    """The mean map of each head over the first `length` positions of texts, padding left out on both sides."""
    found = [_of_batch(explainer.adapter, Inputs.from_mapping(batch), length) for batch in batches]
    if not found:
        raise InputError("conf error: heads: there is no text to look at; give at least one batch.")
    return reduce(add, found)


def _of_batch(adapter: ModelAdapter, inputs: Inputs, length: int) -> MeanAttention:
    aligned, _ = align(inputs.to(adapter.device))
    return maps_of(adapter.attentions(aligned), aligned.attention_mask.bool(), length)


def maps_of(attentions: Sequence[Tensor], visible: Tensor, length: int = LENGTH) -> MeanAttention:
    """The maps of attention that is at hand, L times [B, H, N, N] of left-aligned rows; visible: bool [B, N]."""
    near = visible[:, :length]
    pairs = near[:, :, None] & near[:, None, :]
    size = near.shape[1]
    total = torch.stack([(each[:, :, :size, :size].double() * pairs[:, None]).sum(0) for each in attentions])
    margin = (0, length - size, 0, length - size)
    padded = (torch.nn.functional.pad(each, margin).cpu() for each in (total, pairs.sum(0)))
    return MeanAttention(*padded)


def offset_profile(maps: MeanAttention, reach: int) -> Tensor:
    """[L, H, 2R + 1] mean weight of a query on the key at each offset (key - query) from -R to R.

    A query without a key there counts with 0; what is on keys beyond the maps is at no offset.
    """
    queries = maps.pairs.diagonal().sum().clamp(min=1)
    offsets = range(-reach, reach + 1)
    return torch.stack([maps.total.diagonal(at, -2, -1).sum(-1) for at in offsets], -1) / queries


def without(attention: Tensor, hidden: Tensor, *, renormalise: bool) -> Tensor:
    """Attention [..., N, N] between the tokens that are not `hidden` [N]; rows add up to 1 again if `renormalise`.

    A row that has all its weight on hidden tokens has none.
    """
    kept = attention[..., ~hidden, :][..., ~hidden]
    if not renormalise:
        return kept
    return kept / kept.sum(-1, keepdim=True).clamp(min=torch.finfo(kept.dtype).tiny)


def word_map(attention: Tensor, word_ids: Tensor) -> Tensor:
    """[..., W, W] from word to word of attention [..., N, N] (Clark et al. 2019): what a word gets is the sum over its
    tokens, what it gives the mean, so that rows still add up to 1.

    word_ids: [N], -1 for special tokens, which stay by themselves; the order is that of the first tokens.
    """
    place = torch.arange(len(word_ids), device=word_ids.device)
    own = torch.where(word_ids < 0, -1 - place, word_ids)  # a number of its own for each special token
    _, index = torch.unique(own, return_inverse=True)
    first = torch.full((int(index.max()) + 1,), len(own), device=own.device).scatter_reduce(0, index, place, "amin")
    belongs = one_hot(first.argsort().argsort()[index]).to(attention.dtype)  # [N, W]
    given = attention @ belongs
    return (belongs / belongs.sum(0)).T @ given
