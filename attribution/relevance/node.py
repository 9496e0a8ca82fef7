"""A recorded operation whose backward is looked up in a rule table at the time of the backward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from attribution.errors import UnruledOperation

Grads = tuple[Tensor | None, ...]


class Kind(Enum):
    """What an operation is to a rule table. Structural operations (views, concatenation, indexing) need no rule."""

    LINEAR = "linear"  # (x, weight, bias)
    ADD = "add"  # both operands depend on the input
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


@dataclass
class Pass:
    """What the next backward carries; shared by all nodes of one forward."""

    table: RuleTable
    gates: Tensor | None = None  # [B or 1, L, H]; None: every head is open
    keep: bool = False  # several relevance passes will follow: keep what does not depend on the relevance
    absolute: AbsoluteWeights = field(default_factory=AbsoluteWeights)


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

    def run(self, *tensors: Tensor) -> Tensor:
        """Record the operation; the result carries the node in its graph."""
        return _Ruled.apply(self, *tensors)  # type: ignore[no-untyped-call, no-any-return]

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
    def forward(ctx: Any, node: Node, *tensors: Tensor) -> Tensor:
        ctx.node = node
        result = node.function(*tensors)
        node.inputs = tuple(tensor.detach() for tensor in tensors)
        node.output = result.detach()
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        node: Node = ctx.node
        node.needs = ctx.needs_input_grad[1:]
        results = node.current.table.rule(node)(node, grads[0])
        return None, *results, *(None for _ in range(len(node.inputs) - len(results)))
