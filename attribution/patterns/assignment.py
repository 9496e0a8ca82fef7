"""Which heads of a model get which pattern."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from attribution.errors import InputError
from attribution.patterns.schema import (
    BY_RELEVANCE,
    MAPPED,
    PER_LAYER,
    Assignment,
    Head,
    Injection,
    Pattern,
    PatternFile,
    read_head,
    write_head,
)

if TYPE_CHECKING:
    from attribution.patterns.relevance import PatternRelevance

Layers = list[dict[int, str]]  # of each layer, patterns by the number of the head


def assigned(
    file: PatternFile, n_layers: int, n_heads: int, *, causal: bool = False, relevance: PatternRelevance | None = None
) -> Layers:
    """The patterns of each layer's heads, `n_heads` in a layer. InputError where they do not fit."""
    inject = required(file)
    if causal:
        _refuse_ahead(file.patterns)
    if inject.assign.strategy == MAPPED:
        found = {read_head(head, "heads"): pattern for head, pattern in (inject.assign.heads or {}).items()}
    elif inject.assign.strategy == PER_LAYER:
        found = _cycled(inject, n_layers, n_heads)
    else:
        found = _relevant(inject, relevance)
    return _by_layer(found, n_layers, n_heads)


def resolved(file: PatternFile, n_layers: int, n_heads: int, relevance: PatternRelevance | None = None) -> PatternFile:
    """The same file; where it asks for heads by relevance, with those heads. InputError where there are none."""
    inject = required(file)
    if inject.assign.strategy != BY_RELEVANCE:
        return file
    layers = assigned(file, n_layers, n_heads, relevance=relevance)
    heads = {write_head((at, head)): name for at, found in enumerate(layers) for head, name in found.items()}
    if not heads:
        raise InputError("patterns: no head is significantly relevant to any pattern; there is nothing to inject.")
    return replace(file, inject=replace(inject, assign=Assignment(MAPPED, heads=heads)))


def used(file: PatternFile) -> PatternFile:
    """The same file without patterns that no head is to get, and without what people say of the others.

    Files that do the same to a model are the same then.
    """
    assign = required(file).assign
    names = file.patterns if assign.strategy == BY_RELEVANCE else {*assign.order, *(assign.heads or {}).values()}
    bare = {name: replace(each, why="", seen_in=()) for name, each in file.patterns.items() if name in names}
    return replace(file, patterns=bare, chosen_by=None)


def required(file: PatternFile) -> Injection:
    """What a file says of putting patterns into a model; InputError where it says nothing."""
    if file.inject is None:
        raise InputError("conf error: patterns: this file has no `inject`, which says what heads get the patterns.")
    return file.inject


def _refuse_ahead(patterns: Mapping[str, Pattern]) -> None:
    for name, pattern in patterns.items():
        if pattern.pred.ahead:
            raise InputError(f"conf error: patterns.{name} holds for later tokens alone, which a decoder does not see.")


def _cycled(inject: Injection, n_layers: int, n_heads: int) -> dict[Head, str]:
    order = inject.assign.order * inject.assign.heads_per_pattern
    if len(order) > n_heads:
        raise InputError(
            f"conf error: inject.assign asks for {len(order)} heads in a layer and there are {n_heads}; "
            f"shorten order or lower heads_per_pattern={inject.assign.heads_per_pattern}."
        )
    layers = range(n_layers) if inject.layers == "all" else [int(layer) for layer in inject.layers]
    return {(layer, head): pattern for layer in layers for head, pattern in enumerate(order)}


def _relevant(inject: Injection, relevance: PatternRelevance | None) -> dict[Head, str]:
    """Significant heads, each with the pattern that holds most of its attention above chance."""
    if relevance is None:
        raise InputError(
            "conf error: inject.assign.strategy=by_relevance needs the patterns' relevance, measured first."
        )
    best: dict[Head, tuple[float, str]] = {}
    for name in relevance.names:
        for head, score in relevance.ranked(name)[: inject.assign.most]:
            if inject.layers == "all" or head[0] in inject.layers:
                best[head] = max(best.get(head, (0.0, "")), (score - relevance.chance(name), name))
    return {head: name for head, (_, name) in best.items()}


def _by_layer(found: Mapping[Head, str], n_layers: int, n_heads: int) -> Layers:
    layers: Layers = [{} for _ in range(n_layers)]
    for (layer, head), pattern in sorted(found.items()):
        if layer >= n_layers or head >= n_heads or layer < 0:
            raise InputError(
                f"conf error: inject: there is no head {layer}.{head}; layers are 0 to {n_layers - 1}, "
                f"heads 0 to {n_heads - 1}."
            )
        layers[layer][head] = pattern
    return layers
