"""Importance of heads by first-order effects on the loss: of a gate on each head, and of the head's own weights."""

from __future__ import annotations

import torch
from torch import Tensor

from attribution.heads.head_pass import HeadPass, Projected
from attribution.model.layer import projection


def gate_gradient(found: HeadPass) -> Tensor:
    """[B, L, H] signed derivative of each row's loss by a gate on the head, at 1: sum_t <ctx, dL/dctx>."""
    return found.contributions.sum(-1)


def token_gradient(found: HeadPass) -> Tensor:
    """[B, L, H] sum over tokens of |<ctx, dL/dctx>|."""
    return found.contributions.abs().sum(-1)


def taylor_of_parameters(found: HeadPass) -> Tensor:
    """[B, L, H] sum over a head's weights w of (w dL/dw)^2.

    Its weights are its rows of query, key and value with their biases, and its columns of the output projection. Keys
    and values that several heads share (grouped queries) count for each of them; the output bias for none.
    """
    adapter, gradients = found.rows.adapter, found.parameter_gradients
    total = torch.zeros(len(found.logits), adapter.n_layers, adapter.n_heads, dtype=torch.float64)
    for path, projected in found.projected.items():
        outward = path == adapter.family.block.output
        for layer, (each, gradient) in enumerate(zip(projected, gradients[path], strict=True)):
            squares = _columns(each, gradient) if outward else _rows(each, gradient)
            n_parts = squares.shape[1] // found.heads[layer].shape[3]
            total[:, layer] += _per_head(squares, adapter.n_heads, n_parts)
    return total


def _weighted(each: Projected, gradient: Tensor) -> Tensor:
    """[B, out, in] (w dL/dw)^2 of each row's own gradient."""
    weight, _ = projection(each.module)
    per_row = torch.einsum("bno,bni->boi", gradient.to(weight), each.taken.to(weight))
    return (per_row * weight).double().square()


def _rows(each: Projected, gradient: Tensor) -> Tensor:
    """[B, out] of an inward projection, biases with it."""
    _, bias = projection(each.module)
    squares = _weighted(each, gradient).sum(2)
    return squares if bias is None else squares + (gradient.sum(1) * bias).double().square()


def _columns(each: Projected, gradient: Tensor) -> Tensor:
    """[B, in] of the outward projection, whose bias belongs to no head."""
    return _weighted(each, gradient).sum(1)


def _per_head(squares: Tensor, n_heads: int, n_parts: int) -> Tensor:
    """[B, H] sums of [B, D], which has `n_parts` parts of one size: all heads', thrice where fused, or of groups."""
    parts = squares.view(len(squares), n_parts, -1).sum(2).cpu()
    if n_parts >= n_heads:
        return parts.view(len(parts), -1, n_heads).sum(1)
    return parts.repeat_interleave(n_heads // n_parts, 1)
