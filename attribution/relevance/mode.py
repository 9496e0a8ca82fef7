"""The function mode that records a forward pass of a stock model as nodes whose backward is looked up in a table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from transformers import activations

from attribution.relevance.node import Kind, Node, Pass

# Rearrangements: their gradient moves relevance without changing it.
STRUCTURAL = {
    "__getitem__", "bfloat16", "broadcast_to", "cat", "chunk", "clone", "contiguous", "double", "dropout", "expand",
    "expand_as", "flatten", "float", "gather", "half", "index_select", "movedim", "narrow", "permute", "repeat",
    "repeat_interleave", "requires_grad_", "reshape", "select", "split", "squeeze", "stack", "swapaxes", "to",
    "transpose", "type", "unbind", "unflatten", "unsqueeze", "view", "view_as",
}  # fmt: skip
CASTS = {torch.Tensor.to, torch.Tensor.type, torch.Tensor.float}

# Activations written as several operations: only the module as a whole has a rule.
ACTIVATION_MODULES: tuple[type[nn.Module], ...] = (
    activations.NewGELUActivation,
    activations.FastGELUActivation,
    activations.QuickGELUActivation,
    activations.AccurateGELUActivation,
    nn.GELU,
    nn.SiLU,
    nn.ReLU,
    nn.Tanh,
)


class RecordingMode(TorchFunctionMode):
    """Replaces ruled operations by nodes, lets structural ones pass, and marks every other one as unruled."""

    def __init__(self, current: Pass, names: dict[nn.Module, str]) -> None:
        super().__init__()
        self.current, self.names, self.suspended = current, names, False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Record `func` if it has a handler; a double-precision tensor is never cast down."""
        kwargs = kwargs or {}
        if func in CASTS and _casts_down(args, kwargs):
            return args[0]
        if self.suspended or not torch.is_grad_enabled():
            return func(*args, **kwargs)
        handler = HANDLERS.get(func)
        if handler is not None and (result := handler(self, func, args, kwargs)) is not None:
            return result
        result = func(*args, **kwargs)
        return result if _name(func) in STRUCTURAL else self._mark(func, result)

    def node(self, kind: Kind, function: Callable[..., Tensor], name: str, **extra: Any) -> Node:
        """A node of this recording."""
        return Node(kind, function, self.current, name, extra=extra)

    def _mark(self, func: Callable[..., Any], result: Any) -> Any:
        if isinstance(result, (tuple, list)):
            return type(result)(self._mark(func, part) for part in result)
        if not (isinstance(result, Tensor) and result.requires_grad):
            return result
        node = self.node(Kind.UNRULED, lambda x: x.view_as(x), f"operation {_name(func)}")
        node.path = self._caller()
        return node.run(result)

    def _caller(self) -> str:
        """Path of the innermost module on the call stack."""
        frame = sys._getframe(1)
        while frame.f_back is not None:
            owner = frame.f_locals.get("self")
            if isinstance(owner, nn.Module) and owner in self.names:
                return self.names[owner]
            frame = frame.f_back
        return ""


class FullPrecision(TorchFunctionMode):
    """Leaves out casts of double-precision tensors to less; for what a rule runs again, outside of the recording."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run `func`, unless it is such a cast."""
        kwargs = kwargs or {}
        return args[0] if func in CASTS and _casts_down(args, kwargs) else func(*args, **kwargs)


def _name(func: Callable[..., Any]) -> str:
    return getattr(func, "__name__", str(func))


def _casts_down(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if not isinstance(args[0], Tensor) or args[0].dtype != torch.float64:
        return False
    asked = [value for value in (*args[1:], *kwargs.values()) if isinstance(value, torch.dtype)]
    return (not asked and len(args) == 1) or any(dtype.is_floating_point and dtype != torch.float64 for dtype in asked)


Handler = Callable[[RecordingMode, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Tensor | None]


def _depends(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _kind(value: Tensor) -> Kind | None:
    """The kind of the node that made a tensor, None where it was no node."""
    node = getattr(value.grad_fn, "node", None)
    return node.kind if isinstance(node, Node) else None


def _linear(
    mode: RecordingMode, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor | None:
    x, weight, bias = _bind(("input", "weight", "bias"), args, kwargs)
    if not _depends(x):
        return None
    operands = (x, weight) if bias is None else (x, weight, bias)
    return mode.node(Kind.LINEAR, F.linear, "linear").run(*operands)


def _addmm(
    mode: RecordingMode, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor | None:
    """GPT-2's Conv1D: bias + x W, a linear layer with its weight transposed."""
    bias, x, weight = args[:3]
    return None if not _depends(x) or kwargs else mode.node(Kind.LINEAR, F.linear, "addmm").run(x, weight.T, bias)


def _add(mode: RecordingMode, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """A residual where both sides depend on the input; or a constant, which only conservative rules ask about."""
    if kwargs or len(args) != 2:
        return None
    depends = [_depends(operand) for operand in args]
    if all(depends):
        return mode.node(Kind.ADD, torch.add, "add").run(*args)
    if any(depends) and all(isinstance(operand, Tensor) for operand in args):
        return mode.node(Kind.SHIFT, torch.add, "shift").run(*(args if depends[0] else reversed(args)))
    result: Tensor = func(*args)
    return result


def _multiply(
    mode: RecordingMode, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor | None:
    if kwargs or len(args) != 2:
        return None
    if _depends(args[0]) and _depends(args[1]):
        gates = [place for place, operand in enumerate(args) if _kind(operand) is Kind.ACTIVATION]
        return mode.node(Kind.PRODUCT, func, "product", gates=gates).run(*args)
    x, constant = args if _depends(args[0]) else (args[1], args[0])
    if not _depends(x) or (isinstance(constant, Tensor) and (x + constant).shape != x.shape):
        return None
    return mode.node(Kind.SCALE, lambda a: func(a, constant), "scaling").run(x)


def _divide(
    mode: RecordingMode, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor | None:
    if kwargs or len(args) != 2 or not _depends(args[0]) or _depends(args[1]):
        return None
    return mode.node(Kind.SCALE, lambda a: func(a, args[1]), "scaling").run(args[0])


def _pool(
    mode: RecordingMode, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor | None:
    """A sum over one dimension, as heads that pool all positions take it."""
    x, dim = _bind(("input", "dim"), args, kwargs)
    if not _depends(x) or not isinstance(dim, int) or len(args) > 2 or set(kwargs) - {"dim"}:
        return None
    return mode.node(Kind.POOL, lambda x: x.sum(dim), "sum", dim=dim).run(x)


def _negate(
    mode: RecordingMode, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor | None:
    return mode.node(Kind.SCALE, torch.neg, "change of sign").run(args[0]) if _depends(args[0]) else None


def _layer_norm(
    mode: RecordingMode, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor | None:
    x, shape, weight, bias, eps = _bind(("input", "normalized_shape", "weight", "bias", "eps"), args, kwargs)
    if not _depends(x) or len(shape) != 1:
        return None
    eps = 1e-5 if eps is None else eps
    operands = tuple(operand for operand in (x, weight, bias) if operand is not None)

    def norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        return F.layer_norm(x, shape, weight, bias, eps)

    return mode.node(Kind.NORM, norm, "layer norm", weight=weight, eps=eps, centred=True).run(*operands)


def _activation(
    mode: RecordingMode, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor | None:
    return mode.node(Kind.ACTIVATION, partial(func, **kwargs), _name(func)).run(args[0]) if _depends(args[0]) else None


def _bind(names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    return [args[i] if i < len(args) else kwargs.get(name) for i, name in enumerate(names)]


# A handler returns None where it does not understand the operands; the operation is then marked like any unknown one
# (marking leaves alone what does not depend on the input).
HANDLERS: dict[Any, Handler] = {
    F.linear: _linear,
    torch.addmm: _addmm,
    torch.Tensor.add: _add,
    torch.add: _add,
    torch.Tensor.mul: _multiply,
    torch.mul: _multiply,
    torch.Tensor.div: _divide,
    torch.Tensor.sum: _pool,
    torch.sum: _pool,
    torch.Tensor.neg: _negate,
    torch.neg: _negate,
    F.layer_norm: _layer_norm,
    F.gelu: _activation,
    F.silu: _activation,
    F.relu: _activation,
    torch.relu: _activation,
    torch.tanh: _activation,
    torch.Tensor.tanh: _activation,
}


@contextmanager
def recording(model: nn.Module, current: Pass, norm_classes: tuple[str, ...]) -> Iterator[RecordingMode]:
    """Record every forward of `model` inside the context.

    Modules that have a rule as a whole (hand-written activations, RMS norms) get their `forward` wrapped on the
    instance and unwrapped on leaving; no class and nothing global is touched.
    """
    mode = RecordingMode(current, {module: name for name, module in model.named_modules()})
    wrapped = [module for module in mode.names if _wrap(mode, module, norm_classes)]
    try:
        with mode:
            yield mode
    finally:
        for module in wrapped:
            del module.forward


def _wrap(mode: RecordingMode, module: nn.Module, norm_classes: tuple[str, ...]) -> bool:
    extra: dict[str, Any] = {}
    if isinstance(module, ACTIVATION_MODULES):
        kind = Kind.ACTIVATION
    elif type(module).__name__ in norm_classes:
        kind, extra = Kind.NORM, {"weight": module.weight, "eps": _epsilon(module), "centred": False}
    else:
        return False
    name, original = type(module).__name__, module.forward

    def suspended(x: Tensor) -> Tensor:
        mode.suspended = True
        try:
            with FullPrecision():
                result: Tensor = original(x)
            return result
        finally:
            mode.suspended = False

    def forward(x: Tensor) -> Tensor:
        recorded = torch.is_grad_enabled() and x.requires_grad
        return mode.node(kind, suspended, name, **extra).run(x) if recorded else suspended(x)

    module.forward = forward
    return True


def _epsilon(norm: nn.Module) -> float:
    for name in ("variance_epsilon", "eps"):
        if isinstance(value := getattr(norm, name, None), float):
            return value
    raise TypeError(f"{type(norm).__name__} has neither variance_epsilon nor eps")
