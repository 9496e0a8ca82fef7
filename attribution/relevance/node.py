"""A recorded operation whose backward is looked up in a rule table at the time of the backward."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attribution.errors import UnruledOperation

Grads = tuple[Tensor | None, ...]


class Kind(Enum):
    """What an operation is to a rule table. Structural operations (views, concatenation, indexing) need no rule."""

    LINEAR = "linear"  # (x, weight, bias)
    ADD = "add"  # both operands depend on the input
    SHIFT = "shift"  # (x, constant): positions and token types
    SCALE = "scale"  # one operand is constant, or a change of sign
    PRODUCT = "product"  # both operands depend on the input: a gate
    POOL = "pool"  # the sum over one dimension
    NORM = "norm"  # (x, weight, bias), layer or RMS normalisation
    ACTIVATION = "activation"
    SCORES = "scores"  # (query, key): query @ key^T
    SOFTMAX = "softmax"  # scaling, mask and softmax of attention scores
    MIX = "mix"  # (attention, value): attention @ value
    FORK = "fork"  # what enters a block, and feeds several of its branches
    GATE = "gate"  # where a head mask cuts the flow
    UNRULED = "unruled"  # anything else; passes gradients, refuses relevance


Rule = Callable[["Node", Tensor], Grads]


@dataclass(frozen=True)
class RuleTable:
    """Which rule each kind of operation follows in one backward."""

    name: str
    rules: Mapping[Kind, Rule]

    def rule(self, node: Node) -> Rule:
        """The rule of a node; raises `UnruledOperation` where the table has none."""
        try:
            return self.rules[node.kind]
        except KeyError:
            raise UnruledOperation(
                f"{node.name} at {node.path or 'the model'} has no rule in {self.name}; "
                "gradient and attention methods do not need one"
            ) from None


class AbsoluteWeights:
    """|W| of each weight, computed once and again only when the weight has changed."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Tensor, int, Tensor]] = {}

    def __call__(self, weight: Tensor) -> Tensor:
        """|weight|, cached by the memory it lives in."""
        version = weight._version if not weight.is_inference() else 0
        key = weight.data_ptr()
        known = self._known.get(key)
        if known is None or known[1] != version or known[2].shape != weight.shape or known[0].dtype != weight.dtype:
            known = (weight.detach(), version, weight.detach().abs())
            self._known[key] = known
        return known[2]


class Operands(NamedTuple):
    """What a node took and gave, of a forward that another one is compared with."""

    inputs: tuple[Tensor, ...]
    output: Tensor


# Which operand of a node depends on nothing and so absorbs what a conservative rule hands it, and under which name.
ABSORBING = {Kind.LINEAR: (2, "biases"), Kind.NORM: (2, "biases"), Kind.SHIFT: (1, "positions")}


@dataclass
class Pass:
    """What the next backward carries; shared by all nodes of one forward.

    probes: by name of what absorbs, ones [B] that require a gradient; a backward asked for the gradient at them gets
        what is absorbed of each example. reference: the nodes, in their order, of a forward to compare with.
    """

    table: RuleTable
    gates: Tensor | None = None  # [B or 1, L, H]; None: every head is open
    keep: bool = False  # several relevance passes will follow: keep what does not depend on the relevance
    absolute: AbsoluteWeights = field(default_factory=AbsoluteWeights)
    probes: Mapping[str, Tensor] = field(default_factory=dict)
    absorbing: bool = False  # the backward is asked for what is absorbed
    log: list[Operands] | None = None  # every node's operands, where this forward is the one to compare with
    reference: Sequence[Operands] = ()
    recorded: int = 0  # nodes so far


@dataclass
class Node:
    """One recorded operation: its kind, its detached operands and result, and what its rules need to know."""

    kind: Kind
    function: Callable[..., Tensor]
    current: Pass
    name: str
    path: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[Tensor, ...] = ()
    output: Tensor = field(default_factory=lambda: torch.empty(0))
    needs: tuple[bool, ...] = ()
    kept: Tensor | None = None
    number: int = 0  # in the order of the forward

    def run(self, *tensors: Tensor) -> Tensor:
        """Record the operation; the result carries the node in its graph."""
        self.number, self.current.recorded = self.current.recorded, self.current.recorded + 1
        place, name = ABSORBING.get(self.kind, (len(tensors), ""))
        probe = self.current.probes.get(name) if place < len(tensors) else None
        result: Tensor = _Ruled.apply(self, probe, *tensors)  # type: ignore[no-untyped-call]
        if self.current.log is not None:
            self.current.log.append(Operands(self.inputs, self.output))
        return result

    @property
    def compared(self) -> Operands:
        """The same node of the forward this one is compared with; raises `UnruledOperation` if there is none."""
        known = self.current.reference
        if self.number < len(known) and known[self.number].output.shape == self.output.shape:
            return known[self.number]
        raise UnruledOperation(f"{self.name} at {self.path or 'the model'} does not run alike on every input")

    def keep(self, compute: Callable[[], Tensor]) -> Tensor:
        """`compute()`, remembered when several relevance passes share this forward."""
        if self.kept is not None:
            return self.kept
        value = compute()
        if self.current.keep:
            self.kept = value
        return value


class _Ruled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, node: Node, probe: Tensor | None, *tensors: Tensor) -> Tensor:
        ctx.node = node
        result = node.function(*tensors)
        node.inputs = tuple(tensor.detach() for tensor in tensors)
        node.output = result.detach()
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        node: Node = ctx.node
        node.needs = ctx.needs_input_grad[2:]
        results = node.current.table.rule(node)(node, grads[0])
        absorbed = _absorbed(node, grads[0]) if ctx.needs_input_grad[1] and node.current.absorbing else None
        return None, absorbed, *results, *(None for _ in range(len(node.inputs) - len(results)))


def _absorbed(node: Node, arriving: Tensor) -> Tensor:
    """[B] the constant operand times the gradient that arrives at it; GPT-2 joins rows and positions to [B * N, D]."""
    place, name = ABSORBING[node.kind]
    constant = node.inputs[place]
    shares = arriving @ constant if constant.ndim == 1 else arriving * constant
    return shares.reshape(len(node.current.probes[name]), -1).sum(1)
