"""The attention function of models whose heads follow patterns, as transformers' attention interface asks for one."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from attribution.errors import InputError, UnruledOperation
from attribution.model.attention import NAME as EXPLAINED
from attribution.model.attention import REFUSED, one_per_query_head, softmax
from attribution.model.edits import current

NAME = "headlight_patterns"
CARRYING = (NAME, EXPLAINED)  # implementations that heed patterns


def pattern_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Attention of [B, H, N, d] queries, with as many key heads or fewer. Returns [B, N, H, d] and [B, H, N, N]."""
    edits = current.get()
    if edits is None:
        raise InputError(
            f"patterns: attention implementation {NAME!r} belongs to models loaded with their patterns; "
            "import attribution.patterns before from_pretrained, and load by an Auto class."
        )
    if given := [name for name in REFUSED if kwargs.get(name) is not None]:
        raise UnruledOperation(f"attention of {type(module).__name__} uses {given[0]}, which is not supported")
    key, value = (one_per_query_head(x, query.shape[1]) for x in (key, value))
    scores = query @ key.transpose(-1, -2)
    scale, mask = edits.next(scores, query.shape[-1] ** -0.5 if scaling is None else scaling, attention_mask)
    attention = softmax(scores, scale, mask)
    kept = edits.dropped_out(attention, scale, dropout if module.training else 0.0)
    return (kept @ value).transpose(1, 2).contiguous(), attention


AttentionInterface.register(NAME, pattern_attention)
AttentionMaskInterface.register(NAME, eager_mask)
