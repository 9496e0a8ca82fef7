"""Which tokens come first, and how many of them a level is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from attribution.errors import InputError

Levels = Sequence[float] | Sequence[int] | Tensor

ORDERS = ("most_relevant_first", "least_relevant_first")
TENTHS = tuple(step / 10 for step in range(1, 11))
ROUNDING = 1e-4  # of a token: 0.1 * 30 is 3.0000000000000004, and 3.0000001 in float32


def ranks(scores: Tensor, among: Tensor, order: str = "most_relevant_first") -> Tensor:
    """Place of each token in the order, from 0; tokens not `among` [B, N] come last. Ties: the earlier token first."""
    if order not in ORDERS:
        raise InputError(f"order={order} is not an order; choose one of {', '.join(ORDERS)}")
    by_score = scores.argsort(dim=1, descending=order == ORDERS[0], stable=True)
    order_of = by_score.gather(1, among.gather(1, by_score).logical_not().byte().argsort(dim=1, stable=True))
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(order_of)
    return torch.empty_like(order_of).scatter(1, order_of, places)


def level_counts(levels: Levels, n: Tensor) -> Tensor:
    """Tokens per level [B, K] out of `n` [B]: fractions are rounded up, counts are cut to n."""
    given = torch.as_tensor(levels, device=n.device)
    if given.numel() == 0 or bool((given < 0).any()) or (given.is_floating_point() and bool((given > 1).any())):
        raise InputError(f"levels={levels}: give fractions from 0.0 to 1.0, or counts as whole numbers")
    rows = given.expand(len(n), -1) if given.dim() < 2 else given
    if not given.is_floating_point():
        return torch.minimum(rows.long(), n[:, None])
    wanted = (rows.double() * n[:, None] - ROUNDING).ceil().long()
    return torch.minimum(wanted.clamp(min=1).where(rows > 0, 0), n[:, None])


def leave_one(counts: Tensor, n: Tensor, bare: Tensor, keep: bool) -> Tensor:
    """Counts [B, K] such that deleting never empties a text of which everything can be perturbed, `bare` bool [B]."""
    bare = bare[:, None].long()
    return torch.maximum(counts, bare) if keep else torch.minimum(counts, n[:, None] - bare)


def paper_counts(n_tokens: Tensor) -> Tensor:
    """[B, 9]: ninths of all tokens, specials included, as Mask-LRP counts them (its reference code, levels 1 to 9)."""
    steps = np.linspace(0, 1, 10) * n_tokens.cpu().numpy()[:, None]
    return torch.from_numpy(np.round(steps)[:, 1:].astype(np.int64))
