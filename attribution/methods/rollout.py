"""Products of token-to-token matrices through the layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def rollout(matrices: Tensor) -> Tensor:
    """Rollout up to each layer of matrices [B, L, N, N]: later layers multiplied on the left. Returns [B, L, N, N].

    Source: Abnar & Zuidema 2020, eq. 1.
    """
    rolled = [matrices[:, 0]]
    for layer in range(1, matrices.shape[1]):
        rolled.append(matrices[:, layer] @ rolled[-1])
    return torch.stack(rolled, dim=1)


def residual_rollout(matrices: Tensor) -> Tensor:
    """Rollout up to each layer of row-normalised (matrix + identity), matrices [B, L, N, N].

    Source: Abnar & Zuidema 2020, eq. 1.
    """
    total = matrices.sum(-1, keepdim=True)
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    return rollout((matrices + identity) / (1 + total))


def residual_rollout_row(maps: Sequence[Tensor], position: Tensor) -> Tensor:
    """Row `position` of the rollout of row-normalised (map + identity), maps L x [B, N, N]. Returns [B, N].

    position: [B], or the weights [B, N] of a mean of rows. Computed in float32 or wider.

    One row is carried from the top layer down, and without its identity part: with a map of row sum r the normalised
    matrix is I + E, E = (map - r I) / (1 + r), so that maps of 1e-6 keep their digits in float32.
    """
    wide = torch.promote_types(maps[0].dtype, torch.float32)
    nowhere = torch.zeros_like(maps[0][:, 0], dtype=wide)
    start = position.to(nowhere) if position.ndim == 2 else nowhere.scatter_(1, position[:, None], 1)
    change = torch.zeros_like(start)
    for matrix in (each.to(wide) for each in reversed(maps)):
        total = matrix.sum(-1)
        held = (start + change) / (1 + total)
        change = change + (held.unsqueeze(1) @ matrix).squeeze(1) - held * total
    return start + change
