"""What attention itself says of heads: how sure, how broad; and how much the prediction hangs on each weight."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from attribution.heads.head_pass import HeadPass
from attribution.heads.outputs import head_outputs
from attribution.heads.rows import Rows, value_of
from attribution.model.adapter import frozen
from attribution.targets import Part

SMOOTHING = 1e-4  # Clark et al. mix so much of the even distribution into each row


def confidence(found: HeadPass) -> Tensor:
    """[B, L, H] mean over tokens of the largest weight, that on the text's closing special token left out."""
    visible, rows = found.visible, found.rows
    last = torch.zeros_like(visible).scatter(1, visible.sum(1, keepdim=True) - 1, True)
    closing = last & rows.adapter.special_tokens(rows.inputs)
    return _mean_over_rows([a.masked_fill(closing[:, None, None], 0).amax(-1) for a in found.attention], visible)


def entropy(found: HeadPass) -> Tensor:
    """[B, L, H] mean over tokens of a row's entropy in nats, smoothed as Clark et al. 2019 do; it grows with length."""
    keys = visible_keys(found.visible, found.rows.adapter.causal)
    return _mean_over_rows([row_entropies(a, keys) for a in found.attention], found.visible)


def normalized_entropy(found: HeadPass) -> Tensor:
    """[B, L, H] the same in parts of ln(keys a row may see), over rows that may see two or more."""
    keys = visible_keys(found.visible, found.rows.adapter.causal)
    several = found.visible & (keys > 1)
    largest = keys.clamp(min=2).log()[:, None]
    return _mean_over_rows([row_entropies(a, keys) / largest for a in found.attention], several)


def visible_keys(visible: Tensor, causal: bool) -> Tensor:
    """[B, N] how many keys each row may see, of bool [B, N]."""
    seen = visible.double()
    return seen.cumsum(1) if causal else seen.sum(1, keepdim=True).expand_as(seen)


def row_entropies(attention: Tensor, keys: Tensor) -> Tensor:
    """[B, H, N] in nats of attention [B, H, N, N]; what a row may not see has no weight and is not smoothed."""
    weights = attention.double()
    smooth = (1 - SMOOTHING) * weights + SMOOTHING / keys.clamp(min=1)[:, None, :, None]
    return -torch.xlogy(smooth, smooth).masked_fill(weights == 0, 0).sum(-1)


def _mean_over_rows(each: list[Tensor], counted: Tensor) -> Tensor:
    """[B, L, H] mean over the counted tokens [B, N] of L x [B, H, N]."""
    weight = counted.double()[:, None, None]
    return (torch.stack(each, 1).double() * weight).sum(-1) / weight.sum(-1).clamp(min=1)


def attention_attribution(found: HeadPass, *, steps: int = 20, rule: str = "left", pool: str = "max") -> Tensor:
    """[B, L, H] largest attribution of a head's attention weights (Hao et al. 2021), one layer scaled at a time."""
    layers = range(found.rows.adapter.n_layers)
    maps = (attention_maps(found, layer, steps=steps, rule=rule) for layer in layers)
    return torch.stack([POOLS[pool](each) for each in maps], 1)


def attention_maps(found: HeadPass, layer: int, *, steps: int = 20, rule: str = "left") -> Tensor:
    """[B, H, N, N] A * mean over a of dp(aA)/dA, p the probability of what is explained, baseline no attention.

    A layer's heads are linear in its attention, so that scaling all of it scales what the heads give, and the gradient
    at a weight is the gradient at the head's output times the value.
    """
    probabilities = [replace(part, output="probability") for part in found.parts]
    total = torch.zeros_like(found.heads[layer])
    for scale in SCALES[rule](steps):
        total += _gradient_at(found.rows, probabilities, layer, scale)
    gradient = (total / steps).transpose(1, 2) @ found.values[layer].transpose(-1, -2)
    return (found.attention[layer] * gradient).double()


def _gradient_at(rows: Rows, asked: list[Part], layer: int, scale: float) -> Tensor:
    """[B, N, H, d] gradient at what the layer's heads give once they are scaled; nothing below is recorded."""
    leaf: list[Tensor] = []

    def edit(at: int, heads: Tensor) -> Tensor:
        if at != layer:
            return heads
        leaf.append((heads.detach() * scale).requires_grad_())
        return leaf[0].view_as(leaf[0])

    with frozen(rows.adapter.model), head_outputs(rows.adapter, edit), torch.enable_grad():
        (gradient,) = torch.autograd.grad(value_of(asked, rows.logits()).sum(), leaf)
    return gradient


SCALES = {
    "left": lambda steps: [step / steps for step in range(steps)],
    "midpoint": lambda steps: [(step + 0.5) / steps for step in range(steps)],
}
POOLS = {"max": lambda maps: maps.amax((2, 3)), "sum": lambda maps: maps.sum((2, 3))}
