"""One forward and one backward from which every importance is read that gradients or attention give."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from attribution.errors import InputError
from attribution.heads.outputs import head_outputs, kept
from attribution.heads.rows import Rows, loss_of
from attribution.model.adapter import ModelAdapter, frozen
from attribution.model.attention import Taps, own_attention
from attribution.targets import Part


@dataclass
class Projected:
    """What one linear map of the heads took, [B, N, in], and gave, [B, N, out], and its module."""

    module: nn.Module
    taken: Tensor
    gave: Tensor


@dataclass
class HeadPass:
    """What one forward over rows leaves of each layer. The loss is of the labels, or of what the model predicts."""

    rows: Rows
    logits: Tensor
    heads: list[Tensor]  # L x [B, N, H, d], before the output projection
    attention: list[Tensor]  # L x [B, H, N, N]
    values: list[Tensor]  # L x [B, H, N, d], one per query head
    projected: dict[str, list[Projected]] = field(default_factory=dict)  # by path inside the block, L each

    @property
    def visible(self) -> Tensor:
        """Bool [B, N]: attended positions."""
        return self.rows.visible

    @cached_property
    def parts(self) -> list[Part]:
        """What the loss is of."""
        return self.rows.parts(self.logits)

    @cached_property
    def loss(self) -> Tensor:
        """[B] loss of the intact model."""
        return loss_of(self.parts, self.logits).detach()

    @cached_property
    def _gradients(self) -> list[Tensor]:
        taps = [*self.heads, *(each.gave for found in self.projected.values() for each in found)]
        # No row's loss depends on another row: the gradient of the sum holds that of each.
        found = torch.autograd.grad(loss_of(self.parts, self.logits).sum(), taps, allow_unused=True)
        return [torch.zeros_like(tap) if each is None else each for tap, each in zip(taps, found, strict=True)]

    @property
    def gradients(self) -> list[Tensor]:
        """L x [B, N, H, d] gradient of each row's loss at `heads`."""
        return self._gradients[: len(self.heads)]

    @property
    def parameter_gradients(self) -> dict[str, list[Tensor]]:
        """The same at what each linear map gave, L x [B, N, out] by path."""
        below = iter(self._gradients[len(self.heads) :])
        return {path: [next(below) for _ in found] for path, found in self.projected.items()}

    @cached_property
    def contributions(self) -> Tensor:
        """[B, L, H, N] <heads, gradient> of each token: the derivative of the loss by a gate on that head's token."""
        pairs = zip(self.heads, self.gradients, strict=True)
        each = [(heads.detach().double() * gradient.double()).sum(-1) for heads, gradient in pairs]
        return torch.stack(each, 1).transpose(2, 3) * self.visible[:, None, None]


def head_pass(rows: Rows, *, parameters: bool = False) -> HeadPass:
    """One forward, ready for the backward; with `parameters`, what enters and leaves the heads' linear maps too."""
    adapter, taps = rows.adapter, Taps()
    heads: list[Tensor] = []
    projected: dict[str, list[Projected]] = {}
    with ExitStack() as stack:
        stack.enter_context(frozen(adapter.model))
        stack.enter_context(own_attention(adapter.model, taps))
        stack.enter_context(_recording_from_the_words(adapter))
        if parameters:
            projected = stack.enter_context(_projections(adapter))
        stack.enter_context(head_outputs(adapter, kept(heads)))
        stack.enter_context(torch.enable_grad())
        logits = rows.logits()
    _check(projected, adapter)
    attention, values = ([each.detach() for each in found] for found in (taps.attention, taps.values))
    return HeadPass(rows, logits, heads, attention, values, projected)


@contextmanager
def _recording_from_the_words(adapter: ModelAdapter) -> Iterator[None]:
    words = adapter.model.get_input_embeddings()
    hook = words.register_forward_hook(lambda _module, _args, output: output.requires_grad_())
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _projections(adapter: ModelAdapter) -> Iterator[dict[str, list[Projected]]]:
    paths = adapter.family.block.projections
    found: dict[str, list[Projected]] = {path: [] for path in paths}

    def keeping(path: str) -> Any:
        def after(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            found[path].append(Projected(module, args[0].detach(), output))
            return output.view_as(output)

        return after

    blocks = dict.fromkeys(adapter.layers())
    hooks = [block.get_submodule(path).register_forward_hook(keeping(path)) for block in blocks for path in paths]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _check(projected: dict[str, list[Projected]], adapter: ModelAdapter) -> None:
    """DeBERTa projects its relative positions with the same weights, for all rows at once: not to be told apart."""
    if any(len(found) != adapter.n_layers for found in projected.values()):
        raise InputError(
            f"method=taylor_params: {adapter.model.config.model_type} uses a head's weights more than once in a layer, "
            "so that the gradients of single examples are not known; choose gate_grad"
        )
