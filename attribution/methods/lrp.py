"""Methods that read relevance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attribution.capture import Capture, Need, Relevance, given
from attribution.errors import InputError
from attribution.methods.registry import register
from attribution.methods.rollout import residual_rollout_row

VARIANTS = ("corrected", "reference")


def _attribution_rollout(capture: Capture, relevance: Relevance, factor: float = 1.0) -> Tensor:
    """Rollout of mean_h (gradient * relevance)+ of every layer, read at the explained position."""
    pairs = zip(capture.gradients.attention, relevance.attention, strict=True)
    maps = [(given(gradient) * given(cam)).clamp(min=0).mean(1) * factor for gradient, cam in pairs]
    return capture.without_read_out(residual_rollout_row(maps, capture.reading))


@register(
    "mask_lrp",
    needs=Need.ATTENTION_GRADIENT | Need.MASKED_RELEVANCE,
    source="Song et al. 2024, arXiv 2401.09972",
)
def mask_lrp(capture: Capture, *, head_mask: Any = None, variant: str = "corrected") -> Tensor:
    """Transformer attribution whose relevance flows through the important heads alone.

    head_mask: bool or float [L, H] or [B, L, H]; None: all heads.
    variant: the reference doubles a masked model's maps; `reference` reproduces that, `corrected` does not, so that a
        mask of ones equals `transformer_attribution`.
    """
    if variant not in VARIANTS:
        raise InputError(f"mask_lrp: variant={variant} is unknown; choices: {', '.join(VARIANTS)}")
    if variant == "reference" and head_mask is None:
        raise InputError("mask_lrp: variant=reference needs a head_mask")
    mask = _gates(head_mask, capture)
    return _attribution_rollout(capture, capture.masked_relevance(mask), factor=2.0 if variant == "reference" else 1.0)


def _gates(head_mask: Any, capture: Capture) -> Tensor:
    """Head mask as [B or 1, L, H] in the model's dtype; a wrong shape or value is refused."""
    adapter, logits = capture.trace.adapter, capture.trace.logits
    shape = (adapter.n_layers, adapter.n_heads)
    mask = torch.ones(shape) if head_mask is None else torch.as_tensor(head_mask)
    if mask.shape not in (shape, (len(logits), *shape)):
        raise InputError(
            f"head_mask has shape {list(mask.shape)}; the model needs {list(shape)} (layers, heads) or [B, L, H]"
        )
    if not bool(torch.isfinite(mask.float()).all()):
        raise InputError("head_mask holds values that are not finite")
    return (mask if mask.ndim == 3 else mask[None]).to(logits)


@register(
    "transformer_attribution",
    needs=Need.ATTENTION_GRADIENT | Need.RELEVANCE,
    source="Chefer et al. 2021 (CVPR), all layers",
)
def transformer_attribution(capture: Capture) -> Tensor:
    """Rollout of attention relevance times attention gradient, positive part, averaged over heads."""
    return _attribution_rollout(capture, capture.relevance)


@register("partial_lrp", needs=Need.TOP_RELEVANCE, source="Voita et al. 2019, as in Chefer et al. 2021")
def partial_lrp(capture: Capture) -> Tensor:
    """Positive relevance at the last attention, averaged over heads."""
    cam = given(capture.relevance.attention[-1]).clamp(min=0).mean(1)
    return capture.without_read_out(capture.row(cam))


@register("full_lrp", needs=Need.INPUT_RELEVANCE, source="Binder et al. 2016, as in Chefer et al. 2021", signed=True)
def full_lrp(capture: Capture) -> Tensor:
    """Relevance at what enters the first block, summed over features."""
    return capture.without_read_out(given(capture.relevance.input).sum(-1))
