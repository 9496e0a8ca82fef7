"""Weighted least squares over coalitions, all rows at once, in float64."""

from __future__ import annotations

import torch
from torch import Tensor

SINGULAR = 1e-10  # of the diagonal, added to it: fewer coalitions than players leave the rest at their prior


def ridge_regression(kept: Tensor, values: Tensor, weight: Tensor, ridge: float) -> Tensor:
    """Coefficients [B, U] that fit values [B, S] of coalitions `kept` [B, S, U] with weights [B, S].

    The intercept is not penalised.
    """
    share = weight / weight.sum(1, keepdim=True)
    x = kept - (share[..., None] * kept).sum(1, keepdim=True)
    y = values - (share * values).sum(1, keepdim=True)
    gram, moment = _moments(x, y, weight)
    coefficients: Tensor = torch.linalg.solve(_regular(gram, ridge), moment)
    return coefficients


def constrained_regression(kept: Tensor, values: Tensor, total: Tensor, members: Tensor) -> Tensor:
    """Coefficients [B, U] of values [B, S], each that of the empty coalition less, that add up to `total` [B].

    What the coalitions leave open goes to equal shares. Coefficients of players that are not `members` [B, U] are 0.
    """
    inside = members.to(kept.dtype)
    equal = inside * (total / members.sum(1).clamp(min=1))[:, None]
    gram, moment = _moments(kept, values - (kept @ equal[..., None])[..., 0], torch.ones_like(values))
    system = _regular(gram, 0.0)
    solved: Tensor = torch.linalg.solve(system, torch.stack((moment, inside), -1)) * inside[..., None]
    change, step = solved.unbind(-1)
    excess = change.sum(1) / step.sum(1).clamp(min=torch.finfo(step.dtype).tiny)
    return equal + change - step * excess[:, None]


def _moments(x: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    weighted = (x * weight[..., None]).transpose(1, 2)
    return weighted @ x, (weighted @ y[..., None])[..., 0]


def _regular(gram: Tensor, ridge: float) -> Tensor:
    """The matrix with `ridge` and a trace of its own scale on its diagonal, so that it can be solved."""
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    scale = diagonal.amax(-1, keepdim=True).clamp(min=1)
    return gram + torch.diag_embed((ridge + SINGULAR * scale).expand_as(diagonal))
