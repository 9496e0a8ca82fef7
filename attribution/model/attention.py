"""Our attention function: scores, mask, softmax and mixing as explicit operations that can be tapped and gated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

from attribution.errors import UnruledOperation
from attribution.model.edits import Scale, edited
from attribution.relevance.node import Kind, Node, Pass

NAME = "headlight"
# Arguments of attention functions that change the result in ways this one does not compute.
REFUSED = ("position_bias", "softcap", "s_aux")


@dataclass
class Taps:
    """What one forward leaves behind of each layer: attention [B, H, N, N], and values [B, H, N, d] of query heads."""

    current: Pass | None = None  # None: nothing is recorded, only attention is collected
    attention: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)


_taps: ContextVar[Taps | None] = ContextVar("taps", default=None)


def attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    bias: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Attention of [B, H, N, d] queries, with as many key heads or fewer. Returns [B, N, H, d] and [B, H, N, N].

    bias: [B, H, N, N], added to the scaled scores; it may depend on the input.
    """
    taps = _taps.get()
    if taps is None:
        raise RuntimeError(f"attention implementation {NAME!r} is only used inside an Explainer")
    if given := [name for name in REFUSED if kwargs.get(name) is not None]:
        raise UnruledOperation(f"attention of {type(module).__name__} uses {given[0]}, which is not supported")
    key, value = (one_per_query_head(x, query.shape[1]) for x in (key, value))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    record = Recorder(taps, module)
    scores = record(Kind.SCORES, lambda q, k: q @ k.transpose(-1, -2))(query, key)
    if bias is not None:
        named = record(
            Kind.UNRULED, lambda x: x.view_as(x), name="a bias of attention scores that depends on the input"
        )
        scores = scores + named(bias / scale)
    factor, mask = edited(scores, scale, attention_mask)
    attention = record(Kind.SOFTMAX, lambda s: softmax(s, factor, mask), scaling=factor, mask=mask)(scores)
    attention = record(Kind.GATE, lambda x: x.view_as(x))(attention)
    value = record(Kind.GATE, lambda x: x.view_as(x))(value)
    taps.attention.append(attention)
    taps.values.append(value)
    mixed = record(Kind.MIX, lambda a, v: a @ v)(attention, value)
    return mixed.transpose(1, 2).contiguous(), attention


def disentangled_forward(
    module: Any,
    hidden_states: Tensor,
    attention_mask: Tensor,
    output_attentions: bool = False,
    query_states: Tensor | None = None,
    relative_pos: Tensor | None = None,
    rel_embeddings: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """DeBERTa's attention, which knows no attention interface: content scores here, relative positions as its bias.

    attention_mask: [B, 1, N, N], 1 where a token may attend to another. Returns [B, N, D] and [B, H, N, N].
    """
    asking = hidden_states if query_states is None else query_states
    query, key, value = (
        project(x).unflatten(-1, (module.num_attention_heads, -1)).transpose(1, 2)
        for project, x in (
            (module.query_proj, asking),
            (module.key_proj, hidden_states),
            (module.value_proj, hidden_states),
        )
    )
    factor = 1 + len({"c2p", "p2c"} & set(module.pos_att_type))
    bias = None
    if module.relative_attention:
        flat = module.disentangled_attention_bias(
            query.flatten(0, 1), key.flatten(0, 1), relative_pos, rel_embeddings, factor
        )
        bias = flat.unflatten(0, query.shape[:2])
    hidden = (1 - attention_mask.to(query.dtype)) * torch.finfo(query.dtype).min
    mixed, attention = attention_forward(
        module, query, key, value, hidden, scaling=(query.shape[-1] * factor) ** -0.5, bias=bias
    )
    return mixed.flatten(2), attention


# Attention classes that do not ask for an attention function; inside `own_attention` they run these instead.
OWN_FORWARDS = {"DisentangledSelfAttention": disentangled_forward}


class Recorder:
    """Makes nodes of one layer's attention, or plain operations where nothing is recorded."""

    def __init__(self, taps: Taps, module: nn.Module) -> None:
        self.current, self.layer, self.owner = taps.current, len(taps.attention), type(module).__name__

    @classmethod
    def beside(cls, module: nn.Module) -> Recorder:
        """Of attention that stands beside the blocks of a model, whoever runs it."""
        return cls(_taps.get() or Taps(), module)

    def __call__(self, kind: Kind, function: Any, *, name: str = "", **extra: Any) -> Any:
        """`function` as a node of this kind."""
        if self.current is None:
            return function
        path = f"{self.owner} of layer {self.layer}"
        return Node(kind, function, self.current, name or kind.value, path, {"layer": self.layer, **extra}).run


def one_per_query_head(x: Tensor, n_heads: int) -> Tensor:
    """Keys or values repeated for grouped-query attention."""
    batch, n_groups, length, size = x.shape
    if n_groups == n_heads:
        return x
    return x.unsqueeze(2).expand(-1, -1, n_heads // n_groups, -1, -1).reshape(batch, n_heads, length, size)


def softmax(scores: Tensor, scale: Scale, mask: Tensor | None) -> Tensor:
    """Of scores [B, H, N, N] scaled and masked, in float32 or wider."""
    scaled = scores * scale
    if mask is not None:
        scaled = scaled + mask
    wide = torch.promote_types(scaled.dtype, torch.float32)
    return torch.softmax(scaled, dim=-1, dtype=wide).to(scores.dtype)


@contextmanager
def own_attention(model: PreTrainedModel, taps: Taps) -> Iterator[None]:
    """Run `model` with our attention function; its own implementation is back on leaving."""
    before = model.config._attn_implementation
    replaced = [module for module in model.modules() if type(module).__name__ in OWN_FORWARDS]
    model.config._attn_implementation = NAME
    token = _taps.set(taps)
    try:
        for module in replaced:
            module.forward = partial(OWN_FORWARDS[type(module).__name__], module)
        yield
    finally:
        for module in replaced:
            module.__dict__.pop("forward", None)
        _taps.reset(token)
        model.config._attn_implementation = before


AttentionInterface.register(NAME, attention_forward)
# Without a mask function of that name the mask would arrive as None: causality and padding would vanish.
AttentionMaskInterface.register(NAME, eager_mask)
