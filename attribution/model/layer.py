"""What a block does with the sum of its input and its attention's output, as weights and functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from attribution.errors import UnruledOperation
from attribution.model.families import Block, Family

# Numbers that are activated at once: those of a processor stay in its cache.
PIECES = {"cpu": 2**18, "cuda": 2**28}


@dataclass(frozen=True)
class Norm:
    """Layer normalisation, or one that does not centre (RMS)."""

    weight: Tensor | None
    bias: Tensor | None
    eps: float
    centred: bool

    def __call__(self, x: Tensor) -> Tensor:
        """x [.., D] normalised."""
        if self.centred:
            return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)
        return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [.., D] normalised, and its scale [.., 1]."""
        if self.centred:
            normed, _, scale = torch.native_layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)
            return normed, scale
        scale = (x.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return x * scale if self.weight is None else x * scale * self.weight, scale

    def part(self, x: Tensor, scale: Tensor) -> Tensor:
        """What a summand x [.., D] of a sum becomes whose scale is `scale` [.., 1]; the bias is left out."""
        scaled = (x - x.mean(-1, keepdim=True) if self.centred else x) * scale
        return scaled if self.weight is None else scaled * self.weight


class Folded(NamedTuple):
    """Normalisation and value path folded into the feed-forward branch's first projection; M its width."""

    sums: Tensor  # [M, D]: for what is to be normalised
    values: Tensor  # [H, d, M]: for the values of each head
    constant: Tensor  # [M]


@dataclass(frozen=True)
class Layer:
    """A block behind its attention, D wide, in single precision or wider.

    z [.., D]: what enters the block plus what its attention gives, before any normalisation.
    """

    heads: Tensor  # [H, d, D] what carries each head's values to z
    middle: Norm  # after z: of z (post), or of what enters the feed-forward branch (pre)
    inward: tuple[tuple[Tensor, Tensor | None], ...]
    activation: Callable[[Tensor], Tensor]
    outward: tuple[Tensor, Tensor | None]
    last: Norm | None  # of what leaves the block
    norm_first: bool

    def norms(self) -> list[Norm]:
        """Those that z passes on the residual path."""
        return [] if self.norm_first else [self.middle, *([self.last] if self.last else [])]

    def inner(self, normed: Tensor) -> Tensor:
        """[.., M] what the feed-forward branch activates, from what enters it."""
        return torch.cat([F.linear(normed, *each) for each in self.inward], -1)

    def beside(self, z: Tensor, normed: Tensor) -> Tensor:
        """What is added to the feed-forward branch [.., D], from z and z normalised."""
        return z if self.norm_first else normed

    def total(self, residual: Tensor, inner: Tensor) -> Tensor:
        """Both branches together [.., D], before the last normalisation; overwrites `inner`."""
        weight, bias = self.outward
        hidden, *gate = torch.split(inner, weight.shape[1], dim=-1)
        self._activate(hidden)
        return F.linear(hidden.mul_(*gate) if gate else hidden, weight, bias).add_(residual)

    def _activate(self, hidden: Tensor) -> None:
        """Activate in place, some rows at a time: large fresh memory takes longer than the activation."""
        rows = hidden.view(-1, hidden.shape[-1])
        at_once = PIECES.get(hidden.device.type, PIECES["cuda"]) // rows.shape[1]
        for part in torch.split(rows, max(1, at_once)):
            part.copy_(self.activation(part))

    def leaves(self, residual: Tensor, inner: Tensor) -> Tensor:
        """What leaves the block, [.., D]; overwrites `inner`."""
        total = self.total(residual, inner)
        return self.last(total) if self.last else total

    def fold(self) -> Folded:
        """The folded projections: inner(z) = scale(z) * (z @ sums.T) + constant."""
        weight = torch.cat([weight for weight, _ in self.inward])
        constants = [torch.zeros_like(w[:, 0]) if b is None else b for w, b in self.inward]
        constant = torch.cat(constants)
        if self.middle.bias is not None:
            constant = constant + weight @ self.middle.bias
        sums = weight if self.middle.weight is None else weight * self.middle.weight
        if self.middle.centred:
            sums = sums - sums.mean(1, keepdim=True)
        return Folded(sums, self.heads @ sums.T, constant)


class FoldedProjections:
    """Folded projections of each layer, made once and again only when a weight has changed (its version has)."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[list[Tensor], list[int], Folded]] = {}

    def __call__(self, layer: Layer, module: nn.Module) -> Folded:
        """Those of `module`, as `layer` has it."""
        parameters = [parameter.detach() for parameter in module.parameters()]
        versions = [0 if parameter.is_inference() else parameter._version for parameter in parameters]
        known = self._known.get(id(module))
        if known is None or known[1] != versions or not _same_memory(known[0], parameters):
            known = (parameters, versions, layer.fold())  # holding the parameters keeps their memory from reuse
            self._known[id(module)] = known
        return known[2]


def _same_memory(before: list[Tensor], now: list[Tensor]) -> bool:
    return [(p.data_ptr(), p.dtype) for p in before] == [(p.data_ptr(), p.dtype) for p in now]


def norm_after_attention(module: nn.Module, block: Block) -> nn.Module:
    """What normalises z."""
    return module.get_submodule(block.mlp_norm if block.norm_first else block.attention_norm)


def layer_of(module: nn.Module, family: Family, n_heads: int, final: nn.Module | None = None) -> Layer:
    """The block `module`; `final`: what normalises its output if it is the last and normalises first."""
    block, inside = family.block, family.block.feed_forward
    last = final if block.norm_first else module.get_submodule(block.mlp_norm)
    output, _ = projection(module.get_submodule(block.output))
    return Layer(
        heads=output.T.reshape(n_heads, -1, len(output)),
        middle=_norm(norm_after_attention(module, block), family),
        inward=tuple(projection(module.get_submodule(path)) for path in inside.inward),
        activation=_attribute(module, inside.activation),
        outward=projection(module.get_submodule(inside.outward)),
        last=None if last is None else _norm(last, family),
        norm_first=block.norm_first,
    )


def projection(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Weight [out, in] and bias of a linear module."""
    weight = _wide(module.weight)
    return weight.T if isinstance(module, Conv1D) else weight, _wide(module.bias)


def _norm(module: nn.Module, family: Family) -> Norm:
    centred = isinstance(module, nn.LayerNorm)
    if not (centred or isinstance(module, nn.RMSNorm) or type(module).__name__ in family.norms):
        raise UnruledOperation(f"{type(module).__name__} is no normalisation that value zeroing can take apart")
    eps: Any = getattr(module, "variance_epsilon", None) or module.eps
    weight, bias = (_wide(getattr(module, name, None)) for name in ("weight", "bias"))
    return Norm(weight, bias, float(eps), centred)


def _wide(parameter: Any) -> Any:
    if parameter is None:
        return None
    return parameter.detach().to(torch.promote_types(parameter.dtype, torch.float32))


def _attribute(module: Any, path: str) -> Any:
    """Activations may be plain functions, which `get_submodule` does not find."""
    for name in path.split("."):
        module = getattr(module, name)
    return module
