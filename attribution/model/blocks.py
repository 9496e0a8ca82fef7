"""The parts of a block by what they do, whatever their family calls them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from attribution.model.families import Block


class Projection(NamedTuple):
    """y = x @ weight.T + bias, weight [out, in]."""

    weight: Tensor
    bias: Tensor | None


def value_projection(module: nn.Module, block: Block) -> Projection:
    """From what attention reads to the values of all key-value heads side by side."""
    whole = _projection(module.get_submodule(block.value))
    if not block.fused:
        return whole
    return Projection(whole.weight.chunk(3)[2], None if whole.bias is None else whole.bias.chunk(3)[2])


def output_projection(module: nn.Module, block: Block) -> Projection:
    """From the mixed values of all query heads side by side to the block's width."""
    return _projection(module.get_submodule(block.output))


def attention_norm(module: nn.Module, block: Block) -> nn.Module:
    """Normalisation before attention (`norm_first`), or after the sum of attention and what it read."""
    return module.get_submodule(block.attention_norm)


def mlp_norm(module: nn.Module, block: Block) -> nn.Module:
    """Normalisation before the feed-forward branch (`norm_first`), or after its sum."""
    return module.get_submodule(block.mlp_norm)


def feed_forward(module: nn.Module, block: Block, x: Tensor) -> Tensor:
    """The feed-forward branch alone, without normalisation and residual."""
    for path in block.mlp:
        x = module.get_submodule(path)(x)
    return x


def after_attention(module: nn.Module, block: Block, mixed: Tensor, residual: Tensor) -> Tensor:
    """What leaves a block, given what its output projection gave (`mixed`) and what entered the block."""
    norm, last = attention_norm(module, block), mlp_norm(module, block)
    if block.norm_first:
        middle: Tensor = mixed + residual
        return middle + feed_forward(module, block, last(middle))
    middle = norm(mixed + residual)
    result: Tensor = last(feed_forward(module, block, middle) + middle)
    return result


def _projection(layer: nn.Module) -> Projection:
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    assert bias is None or isinstance(bias, Tensor)
    return Projection(torch.t(weight) if isinstance(layer, Conv1D) else weight, bias)
