"""How far apart the rows of any two heads are, and which heads do much the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

import torch
from scipy.cluster.hierarchy import fcluster, linkage  # type: ignore[import-untyped]
from scipy.spatial.distance import squareform  # type: ignore[import-untyped]
from torch import Tensor

from attribution.errors import InputError
from attribution.heads.attention_importance import visible_keys
from attribution.model.inputs import Inputs

if TYPE_CHECKING:
    from attribution.explainer import Explainer
    from attribution.model.adapter import ModelAdapter

SMOOTHING = 1e-3  # Clark et al. mix so much of the even distribution into each row


@dataclass(frozen=True)
class HeadDistances:
    """Jensen-Shannon divergences of heads added up over texts; sums of texts add up."""

    total: Tensor  # [L * H, L * H] float64, of the mean over the rows of each text, in nats
    texts: int
    shape: tuple[int, int]

    def __add__(self, other: HeadDistances) -> HeadDistances:
        return HeadDistances(self.total + other.total, self.texts + other.texts, self.shape)

    @property
    def matrix(self) -> Tensor:
        """[L * H, L * H] means over texts, from 0 to ln 2."""
        return self.total / self.texts

    def coordinates(self) -> Tensor:
        """[L, H, 2] the plane that shows the distances best (classical scaling), for pictures."""
        squared = self.matrix.square()
        centred = squared - squared.mean(0) - squared.mean(1, keepdim=True) + squared.mean()
        values, vectors = torch.linalg.eigh(-centred / 2)
        axes = vectors[:, -2:].flip(1) * values[-2:].flip(0).clamp(min=0).sqrt()
        signs = axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()  # either sign is as good: make it one
        plane: Tensor = (axes * signs).view(*self.shape, 2)
        return plane

    def clusters(self, number: int) -> Tensor:
        """[L, H] which of at most `number` clusters each head is in, from 1 (average linkage)."""
        tree = linkage(squareform(self.matrix.numpy(), checks=False), method="average")
        return torch.from_numpy(fcluster(tree, number, criterion="maxclust")).long().view(self.shape)


def head_distances(explainer: Explainer, batches: Iterable[Mapping[str, Tensor]]) -> HeadDistances:
    """How differently any two heads attend, averaged over the rows of a text and then over texts (Clark et al. 2019,
    who add up rows, so that long texts count for more).
    """
    adapter = explainer.adapter
    found = [_of_batch(adapter, Inputs.from_mapping(batch).to(adapter.device)) for batch in batches]
    if not found:
        raise InputError("conf error: heads: there is no text to compare heads on; give at least one batch.")
    return reduce(add, found)


def _of_batch(adapter: ModelAdapter, inputs: Inputs) -> HeadDistances:
    visible = inputs.attention_mask.bool()
    rows = _smoothed(adapter.attentions(inputs), visible, adapter.causal)  # [B, G, N, N]
    weight = visible.double() / visible.sum(1, keepdim=True)
    own = _entropies(rows, weight)
    total = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
    for head in range(1, rows.shape[1]):
        mixture = _entropies((rows[:, :head] + rows[:, head : head + 1]) / 2, weight)
        divergence = mixture - (own[:, :head] + own[:, head : head + 1]) / 2
        total[head, :head] = divergence.clamp(min=0).sum(0).cpu()
    return HeadDistances(total + total.T, len(visible), (adapter.n_layers, adapter.n_heads))


def _smoothed(attentions: Sequence[Tensor], visible: Tensor, causal: bool) -> Tensor:
    """[B, L * H, N, N] float64; what a row may not see stays 0."""
    seen = visible[:, None, :] & visible[:, :, None]
    keys = visible_keys(visible, causal).clamp(min=1)[:, :, None]
    even = (seen.tril() if causal else seen) / keys
    return torch.cat([(1 - SMOOTHING) * each.double() + SMOOTHING * even[:, None] for each in attentions], 1)


def _entropies(rows: Tensor, weight: Tensor) -> Tensor:
    """[B, G] mean entropy of rows [B, G, N, N], weighted [B, N]."""
    entropies: Tensor = (-torch.xlogy(rows, rows).sum(-1) * weight[:, None]).sum(-1)
    return entropies
