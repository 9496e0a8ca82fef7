"""One forward pass, and the backwards that the readouts asked for need."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from enum import Flag, auto
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attribution.asking import embedded_as
from attribution.carried import Carried
from attribution.model.adapter import ModelAdapter, frozen
from attribution.model.attention import Taps, own_attention
from attribution.model.inputs import Inputs
from attribution.model.layer import norm_after_attention
from attribution.relevance.mode import recording
from attribution.relevance.node import ABSORBING, AbsoluteWeights, Kind, Node, Operands, Pass, RuleTable
from attribution.relevance.tables import CHEFER, GRADIENT
from attribution.targets import Part


class Need(Flag):
    """What a readout reads; a pass computes the union of what its methods need."""

    NOTHING = 0
    ATTENTION = auto()
    HIDDEN = auto()  # what enters each block
    ATTENTION_GRADIENT = auto()
    TOP_ATTENTION_GRADIENT = auto()  # of the last layer alone
    HIDDEN_GRADIENT = auto()
    EMBEDDING_GRADIENT = auto()  # at the word embeddings
    RELEVANCE = auto()  # at the attention of every layer
    TOP_RELEVANCE = auto()  # at the attention of the last layer alone
    INPUT_RELEVANCE = auto()  # at what enters the first block
    MASKED_RELEVANCE = auto()  # one relevance pass for each head mask
    SUMS = auto()  # what enters each block plus what its attention gives, before any normalisation
    MODIFIED_GRADIENT = auto()  # under the rule table of the method
    OUTPUT = auto()  # what the last block gives
    LAYER_GRADIENT = auto()  # at what one block gives: that which the method's parameter `layer` names


GRADIENTS = Need.ATTENTION_GRADIENT | Need.TOP_ATTENTION_GRADIENT | Need.HIDDEN_GRADIENT | Need.EMBEDDING_GRADIENT
UNMASKED_RELEVANCE = Need.RELEVANCE | Need.TOP_RELEVANCE | Need.INPUT_RELEVANCE
BACKWARDS = GRADIENTS | UNMASKED_RELEVANCE | Need.MASKED_RELEVANCE | Need.MODIFIED_GRADIENT


class Gradients(NamedTuple):
    """True gradients of the explained logit; a layer nobody asked for is None."""

    attention: list[Tensor | None]  # L x [B, H, N, N]
    hidden: list[Tensor | None]  # L x [B, N, D], at what enters each block
    embeddings: Tensor | None = None  # [B, N, E], at what the word embeddings give


class Relevance(NamedTuple):
    """Relevance of the explained logit; a place nobody asked for is None."""

    attention: list[Tensor | None]  # L x [B, H, N, N]
    input: Tensor | None  # [B, N, D], at what enters the first block


@dataclass
class Trace:
    """One forward over left-aligned rows, ready for any number of backwards."""

    adapter: ModelAdapter
    inputs: Inputs
    logits: Tensor  # [B, C], [B, N, 2] or [B, P, V]
    attention: list[Tensor]  # L x [B, H, N, N]
    hidden: list[Tensor]  # L x [B, N, D], what enters each block
    embeddings: Tensor  # [B, N, D], output of the word embeddings
    current: Pass
    values: list[Tensor]  # L x [B, H, N, d], one per query head
    sums: list[Tensor]  # L x [B, N, D], what enters each block plus what its attention gives; if asked for
    columns: Tensor | None = None  # [B, P] where next-token logits were computed
    output: Tensor | None = None  # [B, N, D], what the last block gives; if asked for
    memo: dict[Hashable, Tensor] = field(default_factory=dict)  # what readouts of several targets share

    @property
    def visible(self) -> Tensor:
        """Bool [B, N]: attended positions."""
        return self.inputs.attention_mask.bool()

    def backward(
        self,
        table: RuleTable,
        seed: Tensor,
        taps: Sequence[Tensor],
        gates: Tensor | None = None,
        *,
        several: bool = False,
    ) -> list[Tensor | None]:
        """What arrives at each of `taps` when `seed` starts at the logits under the rules of `table`.

        several: `seed` holds seeds along a leading dimension, which the results have too.
        """
        self.current.table, self.current.gates = table, gates
        options: dict[str, Any] = {"retain_graph": True, "allow_unused": True, "is_grads_batched": several}
        return list(torch.autograd.grad(self.logits, taps, seed, **options))

    def compared_with(self, embeddings: Tensor) -> tuple[Tensor, list[Operands]]:
        """Logits, and every node's operands, of the same rows with other word embeddings [B, N, E]."""
        with embedded_as(self.adapter, embeddings):
            options: dict[str, Any] = {"log": True, "columns": self.columns}
            other = trace(self.adapter, self.inputs, Need.NOTHING, self.current.absolute, **options)
        return other.logits.detach(), other.current.log or []


def trace(
    adapter: ModelAdapter,
    inputs: Inputs,
    needs: Need,
    absolute: AbsoluteWeights,
    *,
    keep: bool = False,
    columns: Tensor | None = None,
    log: bool = False,
    lowest: int | None = None,
) -> Trace:
    """Run the model once on left-aligned rows, recording what `needs` asks for.

    keep: several relevance passes will follow, so that what they share is computed once. columns: [B, P] positions
    whose next token is explained. log: another trace will be compared with this one. lowest: where nothing asks for
    more than gradients of layers, the lowest of these; nothing below it is recorded.
    """
    record = log or bool(needs & BACKWARDS)
    leaf = lowest if Need.LAYER_GRADIENT in needs and not record else None
    current = Pass(GRADIENT, keep=keep, absolute=absolute, log=[] if log else None)
    if Need.MODIFIED_GRADIENT in needs:
        current.probes = _probes(len(inputs.input_ids), adapter)
    taps = Taps(current if record else None)
    hidden: list[Tensor] = []
    embeddings: list[Tensor] = []
    sums: list[Tensor] = []
    outputs: list[Tensor] = []

    def tap_embeddings(_module: object, _inputs: object, output: Tensor) -> None:
        embeddings.append(output.requires_grad_(record))

    def tap_block(
        _module: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        state = _leaf(args[0]) if leaf == len(hidden) else args[0]
        hidden.append(state)
        forked = Node(Kind.FORK, lambda x: x.view_as(x), current, "fork").run(state) if record else state.view_as(state)
        return (forked, *args[1:]), kwargs

    def tap_output(_module: object, _args: object, result: Any) -> Any:
        if len(hidden) < adapter.n_layers:
            return None
        output, *rest = result if isinstance(result, tuple) else (result,)
        outputs.append(_leaf(output) if leaf == adapter.n_layers else output)
        passed = outputs[-1].view_as(output)
        return (passed, *rest) if isinstance(result, tuple) else passed

    hooks = [adapter.model.get_input_embeddings().register_forward_hook(tap_embeddings)]
    layers = dict.fromkeys(adapter.layers())
    hooks += [layer.register_forward_pre_hook(tap_block, with_kwargs=True) for layer in layers]
    if needs & (Need.OUTPUT | Need.LAYER_GRADIENT):
        hooks += [layer.register_forward_hook(tap_output) for layer in layers]
    if Need.SUMS in needs:
        norms = [norm_after_attention(layer, adapter.family.block) for layer in layers]
        hooks += [norm.register_forward_pre_hook(lambda _norm, args: sums.append(args[0].detach())) for norm in norms]
    try:
        with (
            frozen(adapter.model),
            own_attention(adapter.model, taps),
            torch.set_grad_enabled(record or leaf is not None),
        ):
            if record:
                with recording(adapter.model, current, adapter.family.norms):
                    logits = adapter.forward(inputs, columns)
            else:
                logits = adapter.forward(inputs, columns)
    finally:
        for hook in hooks:
            hook.remove()
    output = outputs[-1] if outputs else None
    taken = (taps.attention, hidden, embeddings[0], current, taps.values, sums)
    return Trace(adapter, inputs, logits, *taken, columns=columns, output=output)


def _leaf(state: Tensor) -> Tensor:
    """Where gradients end: what is below is not in the graph. Modules get a view of it, as hooks cannot stand on it."""
    return state.detach().requires_grad_()


def _probes(n_rows: int, adapter: ModelAdapter) -> dict[str, Tensor]:
    """A leaf [B] for each kind of thing that absorbs."""
    names = dict.fromkeys(name for _, name in ABSORBING.values())
    return {name: torch.ones(n_rows, dtype=adapter.dtype, device=adapter.device, requires_grad=True) for name in names}


@dataclass
class Capture:
    """What readouts see of one trace and one seed. Everything is [B, ...] over left-aligned rows."""

    trace: Trace
    part: Part
    needs: Need
    carried: Carried | None = None  # with the other parts explained of the same trace; None: this one alone
    _masked: dict[int, Relevance] = field(default_factory=dict)

    @property
    def visible(self) -> Tensor:
        """Bool [B, N]: attended positions."""
        return self.trace.visible

    @property
    def input_ids(self) -> Tensor:
        """[B, N] token ids."""
        return self.trace.inputs.input_ids

    @property
    def attention(self) -> list[Tensor]:
        """L x [B, H, N, N] attention after softmax."""
        return [attention.detach() for attention in self.trace.attention]

    @property
    def hidden(self) -> list[Tensor]:
        """L x [B, N, D] what enters each block."""
        return [hidden.detach() for hidden in self.trace.hidden]

    def state(self, layer: int) -> Tensor:
        """[B, N, D] what block `layer` gives, counted from 1; 0: what enters the first block."""
        return self._state(layer).detach()

    def state_gradient(self, layer: int) -> Tensor:
        """[B, N, D] true gradient at what block `layer` gives."""
        (gradient,) = self.trace.backward(GRADIENT, self.part.gradient, [self._state(layer)])
        return given(gradient)

    def _state(self, layer: int) -> Tensor:
        return self.trace.hidden[layer] if layer < self.trace.adapter.n_layers else given(self.trace.output)

    @property
    def values(self) -> list[Tensor]:
        """L x [B, H, N, d] value vectors."""
        return [values.detach() for values in self.trace.values]

    @property
    def value(self) -> Tensor:
        """[B] what is explained, of the rows as they are; float32 or wider."""
        return self.part.value(self.trace.logits.detach(), self.visible, self.part.chosen)

    @property
    def explained(self) -> Tensor:
        """[B] what relevance starts from: the value of a logit, for a probability its gradient times the logits."""
        if self.part.output == "logit":
            return self.value
        return (self.part.gradient * self.trace.logits.detach()).flatten(1).sum(1)

    @property
    def embeddings(self) -> Tensor:
        """[B, N, E] what the word embeddings give."""
        return self.trace.embeddings.detach()

    @cached_property
    def gradients(self) -> Gradients:
        """True gradients, all in one backward."""
        attention = _asked(self.trace.attention, self.needs, Need.ATTENTION_GRADIENT, Need.TOP_ATTENTION_GRADIENT)
        hidden = self.trace.hidden if Need.HIDDEN_GRADIENT in self.needs else []
        words = [self.trace.embeddings] if Need.EMBEDDING_GRADIENT in self.needs else []
        found = self.trace.backward(GRADIENT, self.part.gradient, [*attention, *hidden, *words])
        unasked: list[Tensor | None] = [None] * (len(self.trace.attention) - len(attention))
        below = found[len(attention) :]
        return Gradients(unasked + found[: len(attention)], below[: len(hidden)], below[-1] if words else None)

    @cached_property
    def relevance(self) -> Relevance:
        """Relevance under the rules of Chefer et al., every head open."""
        return self._relevance(None, self.needs)

    def masked_relevance(self, head_mask: Tensor) -> Relevance:
        """Relevance through the heads of `head_mask` [B or 1, L, H], one pass for each different mask.

        A layer's own mask thins only what reaches lower layers: its map is taken before the gate.
        """
        key = hash(head_mask.double().cpu().numpy().tobytes())  # NumPy knows no bfloat16
        if key not in self._masked:
            self._masked[key] = self._relevance(head_mask, Need.RELEVANCE)
        return self._masked[key]

    def _relevance(self, gates: Tensor | None, needs: Need) -> Relevance:
        attention = _asked(self.trace.attention, needs, Need.RELEVANCE, Need.TOP_RELEVANCE)
        entry = self.trace.hidden[:1] if Need.INPUT_RELEVANCE in needs else []
        found = self.trace.backward(CHEFER, self.part.relevance, [*attention, *entry], gates)
        unasked: list[Tensor | None] = [None] * (len(self.trace.attention) - len(attention))
        return Relevance(unasked + found[: len(attention)], found[-1] if entry else None)

    @cached_property
    def modified(self) -> Carried:
        """Backwards under the rule tables of methods."""
        return Carried(self.trace, [self.part]) if self.carried is None else self.carried

    @cached_property
    def reading(self) -> Tensor:
        """[B, N] by how much what is explained reads each position: one alone, or all alike where the head pools."""
        if self.trace.adapter.pools_all:
            return self.visible / self.visible.sum(1, keepdim=True).to(self.trace.adapter.score_dtype)
        alone = torch.zeros_like(self.visible, dtype=self.trace.adapter.score_dtype)
        return alone.scatter(1, self.part.position[:, None], 1)

    def row(self, matrix: Tensor) -> Tensor:
        """Row of [B, N, N] at the position that is explained, [B, N]; the mean of rows where the head pools."""
        if self.trace.adapter.pools_all:
            return (self.reading.to(matrix.dtype).unsqueeze(1) @ matrix).squeeze(1)
        return matrix.gather(1, self.part.position[:, None, None].expand(-1, 1, matrix.shape[2])).squeeze(1)

    def without_read_out(self, scores: Tensor) -> Tensor:
        """[B, N] with 0 at an encoder classifier's first token, which only carries the read-out."""
        adapter = self.trace.adapter
        if adapter.task != "classification" or adapter.causal or adapter.pools_all:
            return scores
        return scores.scatter(1, self.part.position[:, None], 0)


def given(tensor: Tensor | None) -> Tensor:
    """A tensor that the pass was asked for."""
    if tensor is None:
        raise LookupError(
            "a readout reads what its method does not declare in `needs`, or what the output cannot reach"
        )
    return tensor


def _asked(tensors: list[Tensor], needs: Need, every: Need, last: Need) -> list[Tensor]:
    if every in needs:
        return tensors
    return tensors[-1:] if last in needs else []
