"""What each attention head gives, before the output projection: to be read, switched off or replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from attribution.model.adapter import ModelAdapter

Edit = Callable[[int, Tensor], Tensor]


@contextmanager
def head_outputs(adapter: ModelAdapter, edit: Edit) -> Iterator[None]:
    """Inside, heads [B, N, H, d] of each layer pass through `edit(layer, heads)` before the output projection.

    Layers are told by the order in which they run, since shared blocks (ALBERT) are one module. What is edited follows
    the values alone: attention may be computed by whatever implementation the model has.
    """
    calls = count()

    def before(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        heads = args[0].unflatten(-1, (adapter.n_heads, -1))
        return (edit(next(calls) % adapter.n_layers, heads).flatten(-2), *args[1:])

    path = adapter.family.block.output
    projections = dict.fromkeys(block.get_submodule(path) for block in adapter.layers())
    hooks = [projection.register_forward_pre_hook(before) for projection in projections]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def gated(gates: Tensor) -> Edit:
    """Heads times their gate: [L, H] for all rows, [B, L, H] for each, or anything between 0 and 1."""
    per_row = gates if gates.ndim == 3 else gates[None]

    def edit(layer: int, heads: Tensor) -> Tensor:
        return heads * per_row[:, layer, None, :, None].to(heads)

    return edit


def kept(found: list[Tensor]) -> Edit:
    """Heads as they are, left in `found` in the order of the layers."""

    def edit(_layer: int, heads: Tensor) -> Tensor:
        found.append(heads)
        return heads.view_as(heads)

    return edit


def replaced(layer: int, head: int, by: Tensor | float) -> Edit:
    """One head gives `by` instead: a number, or [d], or [B, N, d]."""

    def edit(at: int, heads: Tensor) -> Tensor:
        if at != layer:
            return heads
        changed = heads.clone()
        changed[:, :, head] = torch.as_tensor(by).to(heads)
        return changed

    return edit
