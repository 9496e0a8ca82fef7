"""Methods that read gradients: of the attention, or of the word embeddings at the text and on the way to it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attribution.asking import Asking, Gradients, Scored, Values
from attribution.capture import Capture, Need, given
from attribution.draws import example_keys, normal, uniform
from attribution.errors import InputError
from attribution.methods.baselines import BASELINES, baseline_embeddings
from attribution.methods.registry import register

ROWS_AT_ONCE = 64  # copies of rows that one ask is about: enough for full passes, and bounded memory
SMALLEST_CHANGE = 1e-2  # of a completeness error relative to what changes: smaller changes count as this
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
def input_x_gradient(capture: Capture) -> Tensor:
    """Word embedding times its gradient, summed over features; what a linear model owes to each token."""
    return (capture.embeddings * given(capture.gradients.embeddings)).sum(-1)


@register(
    "integrated_gradients",
    needs=Need.NOTHING,
    source="Sundararajan et al. 2017, eq. 1; Gauss-Legendre nodes",
    signed=True,
    aliases=("lig", "ig", "IntegratedGradients", "layer_integrated_gradients", "LayerIntegratedGradients"),
    asked=("1 + max(n_steps, 2 * max_steps - n_steps)", "max(n_steps, 2 * max_steps - n_steps)"),
    choices={"baseline": tuple(BASELINES)},
)
def integrated_gradients(
    capture: Capture,
    *,
    n_steps: int = 20,
    tolerance: float | None = 0.01,
    max_steps: int = 160,
    baseline: str | None = None,
) -> Asking:
    """Difference to the baseline times the mean gradient on the straight way from it, summed over features.

    tolerance: examples whose completeness error exceeds this share of what changes get twice the nodes, again and
        again up to max_steps; None: all have n_steps.
    Facts: value, baseline_value, completeness_error, forwards, backwards, steps of each example.
    """
    _positive("integrated_gradients", n_steps=n_steps, max_steps=max_steps)
    start = baseline_embeddings(capture, baseline)
    rows = torch.arange(len(start), device=start.device)
    value, before = capture.value, (yield Values(rows, start))
    scores, spent, used = torch.zeros_like(_wide(start)[..., 0]), torch.zeros_like(rows), torch.zeros_like(rows)
    steps, pending = n_steps, rows
    while len(pending):
        scores[pending] = yield from _integral(capture, pending, start[pending], steps)
        spent[pending] += steps
        used[pending] = steps
        steps *= 2
        error = scores.sum(1) - (value - before)
        far = error.abs() > (tolerance or 0) * (value - before).abs().clamp(min=SMALLEST_CHANGE)
        pending = pending[far[pending]] if tolerance is not None and steps <= max_steps else pending[:0]
    return Scored(
        scores, {**_completeness(scores, value, before), "forwards": 1 + spent, "backwards": spent, "steps": used}
    )


def _integral(capture: Capture, rows: Tensor, start: Tensor, steps: int) -> Generator[Any, Any, Tensor]:
    """Scores [R, N] of rows from `steps` nodes on the way from `start` [R, N, E]."""
    change = _wide(capture.embeddings[rows] - start)
    nodes, weights = (torch.from_numpy(x).to(change) for x in _unit_interval(steps))
    total = torch.zeros_like(change)
    for group in _groups(steps, rows):
        points = start + nodes[group, None, None, None] * change
        _, gradients = yield Gradients(rows.repeat(len(group)), points.flatten(0, 1))
        total += torch.einsum("g,grne->rne", weights[group], gradients.to(change).view_as(points))
    return (total * change).sum(-1)


def _unit_interval(steps: int) -> tuple[Any, Any]:
    """Gauss-Legendre nodes and weights of the interval from 0 to 1, float64."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return (nodes + 1) / 2, weights / 2


@register(
    "smooth_grad",
    needs=Need.NOTHING,
    source="Smilkov et al. 2017, arXiv 1706.03825",
    aliases=("SmoothGrad", "smoothgrad"),
    asked=("n_samples", "n_samples"),
    choices={"norm": tuple(NORMS)},
)
def smooth_grad(
    capture: Capture, *, n_samples: int = 20, noise: float = 0.15, norm: str = "l2", seed: int = 0
) -> Asking:
    """Size of the mean gradient at word embeddings with Gaussian noise.

    noise: its standard deviation as a share of the range of the text's embeddings. norm: see `saliency`.
    """
    _positive("smooth_grad", n_samples=n_samples)
    embeddings, keys = _wide(capture.embeddings), example_keys(capture.input_ids, capture.visible, seed)
    rows, (_, length, size) = torch.arange(len(keys), device=keys.device), embeddings.shape
    spread = noise * _range(embeddings, capture.visible)[None, :, None, None]
    total = torch.zeros_like(embeddings)
    for group in _groups(n_samples, rows):
        drawn = normal(keys, group, length, size).to(embeddings).transpose(0, 1)
        _, gradients = yield Gradients(rows.repeat(len(group)), (embeddings + spread * drawn).flatten(0, 1))
        total += gradients.to(total).view_as(drawn).sum(0)
    spent = torch.full_like(rows, n_samples)
    return Scored(NORMS[norm](total / n_samples), {"value": capture.value, "forwards": spent, "backwards": spent})


def _range(embeddings: Tensor, visible: Tensor) -> Tensor:
    """[B] largest minus smallest feature of the visible tokens."""
    hidden = ~visible[..., None]
    highest = embeddings.masked_fill(hidden, -torch.inf).amax((1, 2))
    return highest - embeddings.masked_fill(hidden, torch.inf).amin((1, 2))


@register(
    "gradient_shap",
    needs=Need.NOTHING,
    source="Lundberg & Lee 2017; Captum's GradientShap",
    signed=True,
    aliases=("lgs", "GradientShap", "LayerGradientShap"),
    asked=("1 + n_samples", "n_samples"),
    choices={"baseline": tuple(BASELINES)},
)
def gradient_shap(
    capture: Capture, *, n_samples: int = 20, stdev: float = 0.0, baseline: str | None = None, seed: int = 0
) -> Asking:
    """Difference to the baseline times the gradient at random places on the way from it, averaged.

    stdev: of Gaussian noise on the text's embeddings; special tokens have none.
    Facts: value, baseline_value, completeness_error, forwards, backwards of each example.
    """
    _positive("gradient_shap", n_samples=n_samples)
    start, keys = baseline_embeddings(capture, baseline), example_keys(capture.input_ids, capture.visible, seed)
    rows, (_, length, size) = torch.arange(len(keys), device=keys.device), start.shape
    value, before = capture.value, (yield Values(rows, start))
    change, content = _wide(capture.embeddings - start), _content(capture)
    scores = torch.zeros_like(change[..., 0])
    for group in _groups(n_samples, rows):
        shares = uniform(keys, group).T[..., None, None].to(change)
        noise = stdev * normal(keys, group, length, size).transpose(0, 1).to(change) * content if stdev else 0
        way = (change + noise).expand(len(group), *change.shape)
        _, gradients = yield Gradients(rows.repeat(len(group)), (start + shares * way).flatten(0, 1))
        scores += (gradients.to(way).view_as(way) * way).sum((0, -1))
    scores /= n_samples
    spent = torch.full_like(rows, n_samples)
    return Scored(scores, {**_completeness(scores, value, before), "forwards": 1 + spent, "backwards": spent})


def _content(capture: Capture) -> Tensor:
    """Bool [B, N, 1]: tokens that are not special."""
    return ~capture.trace.adapter.special_tokens(capture.trace.inputs)[..., None]


def _completeness(scores: Tensor, value: Tensor, before: Tensor) -> dict[str, Tensor]:
    """What the scores should add up to, and by how much they miss it: facts [B]."""
    error = scores.sum(1) - (value - before)
    return {"value": value, "baseline_value": before, "completeness_error": error}


def _groups(samples: int, rows: Tensor) -> tuple[Tensor, ...]:
    """Indexes of samples that are asked for at once."""
    return torch.split(torch.arange(samples, device=rows.device), max(1, ROWS_AT_ONCE // len(rows)))


def _wide(x: Tensor) -> Tensor:
    """Float32, or wider as it is: sums of many gradients keep their digits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _positive(method: str, **given: int) -> None:
    for name, value in given.items():
        if value < 1:
            raise InputError(f"{method}: {name}={value} is not a positive number")
