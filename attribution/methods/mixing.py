"""Token-to-token methods: what each token takes from each other in every layer, and its product through the layers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from attribution.capture import Capture, Need, given
from attribution.errors import InputError
from attribution.methods.registry import register
from attribution.methods.rollout import residual_rollout, residual_rollout_row, rollout
from attribution.mixing.decomposition import VARIANTS, alti_contributions, attention_norms, globenc_norms
from attribution.mixing.flow import attention_flows
from attribution.mixing.source import Source, all_positions, normalised
from attribution.mixing.value_zeroing import heads_of, row_distances, zeroing_distances
from attribution.model.adapter import ModelAdapter
from attribution.model.inputs import Inputs

PARTS = Need.ATTENTION | Need.HIDDEN | Need.SUMS
WITHOUT_RESIDUAL = ("heads", "sum")  # variants of `attention_norm`

# (capture, layer, positions [B, R], **parameters) -> [B, R, N]
Map = Callable[..., Tensor]


@dataclass(frozen=True)
class Mixing:
    """A token-to-token method: its matrix in one layer, and what a pass must record for it."""

    map: Map
    needs: Need
    class_blind: bool = True
    # (adapter, inputs, positions [B, 1], **parameters) -> [B, L, 1, N]: one query cheaper, in single precision or wider
    row: Callable[..., Tensor] | None = None
    # (maps [B, L, N, N], **parameters) -> [B, L, N, N], through the layers up to each
    rolled: Callable[..., Tensor] = field(default_factory=lambda: _plain)

    @property
    def parameters(self) -> list[str]:
        """Names of its parameters."""
        return [p.name for p in inspect.signature(self.map).parameters.values() if p.kind is p.KEYWORD_ONLY]

    def maps(self, capture: Capture, positions: Tensor | None, **parameters: Any) -> Tensor:
        """[B, L, R, N], all layers; queries and keys on padding are 0."""
        rows = all_positions(capture) if positions is None else positions
        layers = range(capture.trace.adapter.n_layers)
        return torch.stack([self.map(capture, layer, rows, **parameters) for layer in layers], 1)

    def rolled_out(self, maps: Tensor, **parameters: Any) -> Tensor:
        """Maps [B, L, N, N] of all queries, multiplied through the layers up to each.

        With an identity where the maps leave out the residual connection; maps that reach down by themselves stay.
        """
        return self.rolled(maps, **{name: parameters[name] for name in self.parameters if name in parameters})


def value_zeroing_map(
    capture: Capture,
    layer: int,
    positions: Tensor,
    *,
    distance: str = "cosine",
    floor: float = 0.0,
    head_mask: Any = None,
    final_norm: bool = True,
    normalise: bool = True,
    memory: int | None = None,
) -> Tensor:
    """Distance of each output from what it would be without a key's values; see `value_zeroing`."""
    source = Source(capture, layer, positions, final_norm)
    heads = heads_of(head_mask, capture.trace.adapter)
    raw = zeroing_distances(source, distance=distance, heads=heads, memory=memory)
    return _shares(raw, floor, normalise)


def value_zeroing_row(
    adapter: ModelAdapter,
    inputs: Inputs,
    positions: Tensor,
    *,
    distance: str = "cosine",
    floor: float = 0.0,
    head_mask: Any = None,
    final_norm: bool = True,
    normalise: bool = True,
    memory: int | None = None,
) -> Tensor:
    """The same of one query in all layers; the pass itself bounds the memory."""
    heads = heads_of(head_mask, adapter)
    raw = row_distances(adapter, inputs, positions, distance=distance, heads=heads, final_norm=final_norm)
    return _shares(raw, floor, normalise)


def _shares(raw: Tensor, floor: float, normalise: bool) -> Tensor:
    kept = raw.masked_fill(raw < floor, 0)
    return normalised(kept) if normalise else kept


def attention_norm_map(
    capture: Capture, layer: int, positions: Tensor, *, variant: str = "heads", memory: int | None = None
) -> Tensor:
    """Norm of what each key brings; see `attention_norm`."""
    return attention_norms(Source(capture, layer, positions), variant=variant, memory=memory)


def globenc_map(capture: Capture, layer: int, positions: Tensor, *, memory: int | None = None) -> Tensor:
    """Norms behind both normalisations; see `globenc`."""
    return globenc_norms(Source(capture, layer, positions), memory=memory)


def alti_map(capture: Capture, layer: int, positions: Tensor, *, memory: int | None = None) -> Tensor:
    """Contributions by L1 distance; see `alti`."""
    return alti_contributions(Source(capture, layer, positions), memory=memory)


def raw_attention_map(capture: Capture, layer: int, positions: Tensor) -> Tensor:
    """Attention, heads averaged."""
    return Source(capture, layer, positions).attention.mean(-1)


def grad_rollout_map(capture: Capture, layer: int, positions: Tensor) -> Tensor:
    """Positive part of attention times its gradient, heads averaged: what `grad_rollout` multiplies."""
    product = given(capture.gradients.attention[layer]) * capture.attention[layer]
    rows = positions[..., None].expand(-1, -1, product.shape[3])
    visible = capture.visible.gather(1, positions)[..., None]
    return product.clamp(min=0).mean(1).gather(1, rows) * visible


def attention_flow_map(capture: Capture, layer: int, positions: Tensor) -> Tensor:
    """Maximum flow from each position above this layer down to each token: through all layers below, not this alone."""
    whole = all_positions(capture)
    below = [raw_attention_map(capture, each, whole) for each in range(layer + 1)]
    return attention_flows(torch.stack(below, 1), capture.visible, positions)


def _plain(maps: Tensor, **parameters: Any) -> Tensor:
    return rollout(maps)


def _residual(maps: Tensor, **parameters: Any) -> Tensor:
    return residual_rollout(maps)


def _norm_rollout(maps: Tensor, *, variant: str = "heads", **parameters: Any) -> Tensor:
    return (_residual if variant in WITHOUT_RESIDUAL else _plain)(maps)


def _as_it_is(maps: Tensor, **parameters: Any) -> Tensor:
    return maps


MIXING: dict[str, Mixing] = {
    "value_zeroing": Mixing(value_zeroing_map, PARTS, row=value_zeroing_row),
    "attention_norm": Mixing(attention_norm_map, PARTS, rolled=_norm_rollout),
    "globenc": Mixing(globenc_map, PARTS),
    "alti": Mixing(alti_map, PARTS),
    "attention_flow": Mixing(attention_flow_map, Need.ATTENTION, rolled=_as_it_is),
    "grad_rollout": Mixing(
        grad_rollout_map, Need.ATTENTION | Need.ATTENTION_GRADIENT, class_blind=False, rolled=_residual
    ),
    "raw_attention": Mixing(raw_attention_map, Need.ATTENTION, rolled=_residual),
}


def mixing_of(method: str, parameters: Sequence[str]) -> Mixing:
    """The token-to-token method of that id; raises `InputError` for it or for a parameter that it does not have."""
    if method not in MIXING:
        raise InputError(f"method={method} gives no token-to-token scores; choices: {', '.join(MIXING)}")
    known = MIXING[method].parameters
    if unknown := [name for name in parameters if name not in known]:
        raise InputError(f"{method} has no parameter {unknown[0]}; its parameters: {', '.join(known) or 'none'}")
    return MIXING[method]


def _row(
    capture: Capture,
    one: partial[Tensor],
    layer: int | None,
    rollout: bool,
    *,
    residual: bool = False,
    per_target: bool = False,
) -> Tensor:
    """[B, N] of the explained position: in one layer, or in the product of the layers up to it.

    residual: the maps leave out the residual connection, so that a rollout adds it. per_target: the maps differ with
    what is explained; others are made once for all targets.
    """
    top, whole = _layer(layer, capture), _made if per_target else _remembered
    if rollout and residual:
        return residual_rollout_row([whole(capture, one, each) for each in range(top + 1)], capture.reading)
    row = _explained(capture, one, top)
    for each in reversed(range(top if rollout else 0)):
        row = (row.unsqueeze(1) @ whole(capture, one, each)).squeeze(1)
    return row


def _made(capture: Capture, one: partial[Tensor], layer: int) -> Tensor:
    """[B, N, N] of a layer."""
    return one(capture, layer, all_positions(capture))


def _remembered(capture: Capture, one: partial[Tensor], layer: int) -> Tensor:
    memo, key = capture.trace.memo, (one.func, layer, tuple(sorted(one.keywords.items())))
    if key not in memo:
        memo[key] = _made(capture, one, layer)
    return memo[key]


def _explained(capture: Capture, one: partial[Tensor], layer: int) -> Tensor:
    """[B, N] of what is read: one position, or the mean of all where the head pools."""
    if capture.trace.adapter.pools_all:
        return capture.row(one(capture, layer, all_positions(capture)))
    return one(capture, layer, capture.part.position[:, None])[:, 0]


def _layer(layer: int | None, capture: Capture) -> int:
    n_layers = capture.trace.adapter.n_layers
    if layer is None:
        return n_layers - 1
    if not 0 <= layer < n_layers:
        raise InputError(f"layer={layer} is not one of the model's layers 0 to {n_layers - 1}")
    return layer


@register("value_zeroing", needs=PARTS, source="Mohebbi et al. 2023, arXiv 2301.12971", class_blind=True)
def value_zeroing(
    capture: Capture,
    *,
    layer: int | None = None,
    rollout: bool = True,
    distance: str = "cosine",
    floor: float = 0.0,
    head_mask: Any = None,
    final_norm: bool = True,
) -> Tensor:
    """How much the explained position changes when a token's value vectors are taken away, rolled out over layers.

    Exact, not by a loop: see `attribution/mixing/value_zeroing.py`. Rows are normalised; no identity is added.

    layer: the last one if None. rollout: through the layers up to it, else in it alone. distance: cosine, euclidean.
    floor: lower distances count as 0 (Inseq: 1e-5). head_mask: [L, H], the heads whose values are taken away.
    final_norm: the last layer of a model that normalises first is compared behind the final normalisation, as in Inseq.
    """
    heads = heads_of(head_mask, capture.trace.adapter)
    mask = None if heads is None else tuple(map(tuple, heads.tolist()))
    one = partial(value_zeroing_map, distance=distance, floor=floor, head_mask=mask, final_norm=final_norm)
    return _row(capture, one, layer, rollout)


@register(
    "attention_norm",
    needs=PARTS,
    source="Kobayashi et al. 2020, 2021",
    class_blind=True,
    choices={"variant": tuple(VARIANTS)},
)
def attention_norm(
    capture: Capture, *, layer: int | None = None, rollout: bool = True, variant: str = "heads"
) -> Tensor:
    """Norm of the transformed value vectors, weighted by attention, rolled out over layers.

    variant: `heads`: |A V W_O| summed over heads; `sum`: norm of the heads' sum; `residual`: that with the residual;
    `residual_norm`: behind the normalisation, too. Where the residual is not inside, the rollout adds an identity.
    """
    residual = variant in WITHOUT_RESIDUAL
    return _row(capture, partial(attention_norm_map, variant=variant), layer, rollout, residual=residual)


@register("globenc", needs=PARTS, source="Modarressi et al. 2022, as reconstructed", class_blind=True)
def globenc(capture: Capture, *, layer: int | None = None, rollout: bool = True) -> Tensor:
    """Norms of each token's vector behind attention, residual and both normalisations, rolled out over layers.

    Where a model normalises first, no normalisation stands on the residual path, and norms with residual are left.
    """
    return _row(capture, partial(globenc_map), layer, rollout)


@register("alti", needs=PARTS, source="Ferrando et al. 2022, as reconstructed", class_blind=True)
def alti(capture: Capture, *, layer: int | None = None, rollout: bool = True) -> Tensor:
    """How much nearer (L1) to the attention sublayer's output each token's vector brings it, rolled out over layers."""
    return _row(capture, partial(alti_map), layer, rollout)


@register("attention_flow", needs=Need.ATTENTION, source="Abnar & Zuidema 2020, section 3", class_blind=True)
def attention_flow(capture: Capture, *, layer: int | None = None) -> Tensor:
    """Maximum flow from the explained position to each token, attention being the capacities; N flow problems."""
    return _row(capture, partial(attention_flow_map), layer, False)


@register(
    "grad_rollout", needs=Need.ATTENTION | Need.ATTENTION_GRADIENT, source="Ali et al. 2022, baseline GAE on SST-2"
)
def grad_rollout(capture: Capture, *, layer: int | None = None) -> Tensor:
    """Rollout of attention times its gradient: positive part, averaged over heads, with identity, rows normalised."""
    return _row(capture, partial(grad_rollout_map), layer, True, residual=True, per_target=True)
