"""Saliency of a layer's positions, decoded to the tokens of the text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from attribution.asking import Scored
from attribution.capture import Capture, Need
from attribution.decoding.credit import (
    NORMALISATIONS,
    WEIGHTS,
    Credit,
    Reading,
    full_credit,
    restricted_credit,
)
from attribution.decoding.head import head_for
from attribution.errors import InputError
from attribution.methods.registry import Method, register
from attribution.model.adapter import ModelAdapter
from attribution.precision import DECODED


def _gradcam_signed(hidden: Tensor, gradient: Tensor, visible: Tensor) -> Tensor:
    """Positions are the pixels, features the channels: features weighted by their mean gradient."""
    weight = (gradient * visible.unsqueeze(2)).sum(1) / visible.sum(1, keepdim=True)
    return (hidden @ weight.unsqueeze(2)).squeeze(2)


def _gradient_times_activation(hidden: Tensor, gradient: Tensor, visible: Tensor) -> Tensor:
    return (gradient * hidden).sum(2)


# (hidden, gradient [B, N, D], visible [B, N]) -> saliency of positions [B, N]
Saliency = Callable[[Tensor, Tensor, Tensor], Tensor]
SALIENCIES: dict[str, Saliency] = {
    "gradcam": lambda *args: _gradcam_signed(*args).clamp(min=0),
    "gradcam_signed": _gradcam_signed,
    "gradxact": _gradient_times_activation,
    "gradxact_relu": lambda *args: _gradient_times_activation(*args).clamp(min=0),
    "gradnorm": lambda hidden, gradient, visible: gradient.norm(dim=2),
}

# (saliency of positions [B, N], credit [B, N, N], how often each token stands in its text [B, N]) -> [B, N]
Aggregate = Callable[[Tensor, Tensor, Tensor], Tensor]


def _by_type(saliency: Tensor, credit: Tensor, count: Tensor) -> Tensor:
    return (saliency.unsqueeze(1) @ credit).squeeze(1)


AGGREGATES: dict[str, Aggregate] = {
    "type": _by_type,
    "split": lambda saliency, credit, count: _by_type(saliency, credit, count) / count,
    "diagonal": lambda saliency, credit, count: saliency * credit.diagonal(dim1=1, dim2=2),
    "restricted": _by_type,
    "raw": lambda saliency, credit, count: saliency,
}


@register(
    "decoded_layer",
    needs=Need.LAYER_GRADIENT,
    source="our reconstruction of Hou & Castanon 2023, arXiv 2308.05219",
    signed=True,
    precision=DECODED,
    choices={
        "saliency": tuple(SALIENCIES),
        "aggregate": tuple(AGGREGATES),
        "normalise": tuple(NORMALISATIONS),
        "weight": WEIGHTS,
    },
)
def decoded_layer(
    capture: Capture,
    *,
    layer: int | None = None,
    saliency: str = "gradcam",
    tau: int | None = 10,
    aggregate: str = "type",
    normalise: str = "softmax",
    weight: str = "value",
) -> Scored:
    """Saliency of a layer's positions, decoded to words by the pre-trained language-model head; our reconstruction.

    Position n has the saliency s_n and is decoded to P_n over the vocabulary, of which the tau highest-ranked R_n are
    kept; token i gets the sum over n of s_n P_n,t_i [t_i in R_n]. Special tokens give saliency but get none.

    layer: 1 to L, what block `layer` gives; 0: what enters the first; None: L. saliency: gradcam (features weighted by
    their mean gradient, positive part), gradcam_signed, gradxact, gradxact_relu, gradnorm. tau: None keeps all.
    aggregate: type; split: shared among equal tokens; diagonal: n = i alone; restricted: P_n over the text's tokens
    alone; raw: s, without decoding. normalise: P is the softmax of the logits, these at unit length, or as they are.
    weight: rank counts every kept token as 1.

    Facts: `recovery`, the share of words' positions whose ten highest-ranked tokens hold a word of the text;
    `salient_recovery`, the share of the saliency at positions whose ten hold their own; for restricted
    `salient_first`, at positions whose own token comes first among the text's.
    """
    adapter = capture.trace.adapter
    layer = layer_of(layer, adapter)
    if tau is not None and tau < 1:
        raise InputError(f"decoded_layer: tau={tau} must be at least 1; null keeps all tokens")
    hidden, gradient = (x.to(adapter.score_dtype) for x in (capture.state(layer), capture.state_gradient(layer)))
    words = ~adapter.special_tokens(capture.trace.inputs)
    strength = SALIENCIES[saliency](hidden, gradient, capture.visible) * capture.visible
    if aggregate == "raw":
        return Scored(strength * words, {})
    read = restricted_credit if aggregate == "restricted" else full_credit
    with torch.no_grad():
        head = head_for(adapter, "decoded_layer")
        found = read(head, hidden, capture.input_ids, capture.visible, words, Reading(tau, normalise, weight))
    count = (capture.input_ids.unsqueeze(2) == capture.input_ids.unsqueeze(1)) & capture.visible.unsqueeze(1)
    scores = AGGREGATES[aggregate](strength, found.credit.to(strength.dtype), count.sum(2).clamp(min=1))
    return Scored(scores * words, _facts(found, strength, words))


def _facts(found: Credit, saliency: Tensor, words: Tensor) -> dict[str, Tensor]:
    """[B] each; undefined (NaN) where no word has any saliency."""
    if found.own is None or found.any is None:
        return {"salient_first": _share(found.first, saliency.abs() * words)}
    return {"recovery": _share(found.any, words.to(saliency.dtype)),
            "salient_recovery": _share(found.own, saliency.abs() * words)}  # fmt: skip


def _share(holds: Tensor, weight: Tensor) -> Tensor:
    """[B] share of the weight [B, N] that stands where something holds."""
    return (weight * holds).sum(1) / weight.sum(1)


def layer_of(layer: Any, adapter: ModelAdapter) -> int:
    """The layer asked for, the last one if None; raises `InputError` where there is no such layer."""
    if layer is None:
        return adapter.n_layers
    if layer == "auto":
        raise InputError("layer=auto: evaluation.layer_choice.choose_layer finds a layer on texts; give its number")
    if not isinstance(layer, int) or not 0 <= layer <= adapter.n_layers:
        raise InputError(f"layer={layer} is not one of the model's layers 0 to {adapter.n_layers} (0: the embeddings)")
    return layer


def lowest_layer(requests: Iterable[tuple[Method, Mapping[str, Any]]], adapter: ModelAdapter) -> int | None:
    """The lowest layer whose gradient these methods ask for."""
    asked = [given.get("layer") for method, given in requests if Need.LAYER_GRADIENT in method.needs]
    return min((layer_of(layer, adapter) for layer in asked), default=None)
