"""Methods that read attention alone; they give the same scores for every class."""

from __future__ import annotations

from torch import Tensor

from attribution.capture import Capture, Need
from attribution.methods.registry import register
from attribution.methods.rollout import residual_rollout_row


@register("raw_attention", needs=Need.ATTENTION, source="Mask-LRP baseline RawAtt", class_blind=True)
def raw_attention(capture: Capture) -> Tensor:
    """Attention of the read-out position in the last layer, averaged over heads."""
    return capture.without_read_out(capture.row(capture.attention[-1].mean(1)))


@register("attention_rollout", needs=Need.ATTENTION, source="Abnar & Zuidema 2020, eq. 1", class_blind=True)
def attention_rollout(capture: Capture, *, start_layer: int = 0) -> Tensor:
    """Attention of the read-out position on every token, through all layers."""
    maps = [attention.mean(1) for attention in capture.attention[start_layer:]]
    return capture.without_read_out(residual_rollout_row(maps, capture.reading))
