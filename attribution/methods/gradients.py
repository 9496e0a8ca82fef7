"""Methods that read gradients of the explained value: of the attention, or of the word embeddings."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from attribution.asking import Scored
from attribution.capture import Capture, Need, given
from attribution.methods.registry import register

NORMS: dict[str, Callable[[Tensor], Tensor]] = {  # gradient [B, N, E] -> [B, N]
    "l2": lambda gradient: gradient.norm(dim=-1),
    "l1": lambda gradient: gradient.abs().sum(-1),
    "max": lambda gradient: gradient.abs().amax(-1),
    "sum": lambda gradient: gradient.sum(-1),
}


def _real_rows(capture: Capture) -> Tensor:
    """[B, 1, N, 1] mask of visible query rows."""
    return capture.visible[:, None, :, None]


def _count(capture: Capture) -> Tensor:
    """[B] visible positions."""
    return capture.visible.sum(1)


@register("gradcam", needs=Need.TOP_ATTENTION_GRADIENT, source="Selvaraju et al. 2017, as in Mask-LRP")
def gradcam(capture: Capture) -> Tensor:
    """Positive part of the last attention's gradient, averaged over heads and query rows."""
    gradient = given(capture.gradients.attention[-1])
    rows = (gradient * _real_rows(capture)).sum(2) / _count(capture)[:, None, None]
    return capture.without_read_out(rows.mean(1).clamp(min=0))


@register(
    "attention_gradcam",
    needs=Need.ATTENTION | Need.TOP_ATTENTION_GRADIENT,
    source="Selvaraju et al. 2017 on attention, as in Chefer et al. 2021",
)
def attention_gradcam(capture: Capture) -> Tensor:
    """The last attention, its heads weighted by their mean gradient, positive part scaled to 0..1 over the matrix.

    A matrix without contrast gives zeros (the reference divides 0 by 0).
    """
    real = (_real_rows(capture) & capture.visible[:, None, None, :]).to(capture.attention[-1].dtype)
    weight = (given(capture.gradients.attention[-1]) * real).sum((2, 3), keepdim=True)
    weight = weight / _count(capture)[:, None, None, None] ** 2
    heat = (weight * capture.attention[-1]).mean(1).clamp(min=0)
    outside = real.squeeze(1) == 0
    low = heat.masked_fill(outside, torch.inf).amin((1, 2), keepdim=True)
    high = heat.masked_fill(outside, -torch.inf).amax((1, 2), keepdim=True)
    span = (high - low).masked_fill(high == low, 1)
    return capture.without_read_out(capture.row((heat - low) / span) * capture.visible)


@register(
    "attcat",
    needs=Need.ATTENTION | Need.HIDDEN | Need.HIDDEN_GRADIENT,
    source="Qiang et al. 2022, as in Mask-LRP",
    signed=True,
)
def attcat(capture: Capture) -> Tensor:
    """Gradient times input of every block, weighted by the attention each token receives, summed over layers."""
    scores = torch.zeros_like(capture.hidden[0][..., 0])
    count = _count(capture)[:, None]
    for hidden, gradient, attention in zip(capture.hidden, capture.gradients.hidden, capture.attention, strict=True):
        received = (attention.mean(1) * capture.visible[..., None]).sum(1) / count
        scores = scores + received * (hidden * given(gradient)).sum(-1)
    return scores


@register(
    "saliency",
    needs=Need.EMBEDDING_GRADIENT,
    source="Simonyan et al. 2014, arXiv 1312.6034",
    aliases=("Saliency", "gradient"),
    choices={"norm": tuple(NORMS)},
)
def saliency(capture: Capture, *, norm: str = "l2") -> Tensor:
    """Size of the gradient at each word embedding.

    norm: l2, l1 or max of a token's features without their signs; sum adds them with their signs.
    """
    return NORMS[norm](given(capture.gradients.embeddings))


@register(
    "input_x_gradient",
    needs=Need.EMBEDDING_GRADIENT,
    source="Shrikumar et al. 2016, arXiv 1605.01713",
    signed=True,
    aliases=("lgxa", "InputXGradient", "grad_x_input", "layer_gradient_x_activation", "LayerGradientXActivation"),
)
def input_x_gradient(capture: Capture) -> Scored:
    """Word embedding times its gradient, summed over features; what a linear model owes to each token.

    Facts: value, and the sum of the scores (`relevance`) beside what would arrive if all did (`explained`).
    """
    scores = (capture.embeddings * given(capture.gradients.embeddings)).sum(-1)
    relevance = (scores * capture.visible).sum(1)
    return Scored(scores, {"value": capture.value, "explained": capture.explained, "relevance": relevance})
