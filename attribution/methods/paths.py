"""Methods that average gradients over places near a text: on the way from a baseline, or with noise."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attribution.asking import Asking, Gradients, Scored, Values
from attribution.capture import Capture, Need
from attribution.draws import example_keys, normal, uniform
from attribution.errors import InputError
from attribution.methods.baselines import BASELINES, baseline_embeddings
from attribution.methods.gradients import NORMS
from attribution.methods.registry import register
from attribution.precision import NEXT_TO_BASELINE

ROWS_AT_ONCE = 64  # copies of rows that one ask is about: enough for full passes, and bounded memory
SMALLEST_CHANGE = 1e-2  # of a completeness error relative to what changes: smaller changes count as this
ROUNDINGS = 4  # of the explained value that a completeness error may hold


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
        error = (scores.sum(1) - (value - before)).abs()
        far = error > torch.maximum((tolerance or 0) * _change(value, before), _rounding(capture, value, before))
        pending = pending[far[pending]] if tolerance is not None and steps <= max_steps else pending[:0]
    return Scored(
        scores, {**_completeness(scores, value, before), "forwards": 1 + spent, "backwards": spent, "steps": used}
    )


def _change(value: Tensor, before: Tensor) -> Tensor:
    """[B] what a completeness error is compared with."""
    return (value - before).abs().clamp(min=SMALLEST_CHANGE)


def _rounding(capture: Capture, value: Tensor, before: Tensor) -> Tensor:
    """[B] what the model's dtype leaves open of values: more nodes would not help."""
    return ROUNDINGS * torch.finfo(capture.embeddings.dtype).eps * (value.abs() + before.abs())


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
    precision=NEXT_TO_BASELINE,
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
