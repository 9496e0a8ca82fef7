"""Value zeroing as it is defined: the stock model once for each layer and token, with hooks."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from tiny_models import tiny_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from attribution import Explainer, Inputs
from attribution.model.attention import Taps, own_attention

IDS = torch.tensor([[7, 31, 5, 90, 44, 5, 23], [60, 8, 71, 12, 33, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0]])


def exact_model(name: str) -> PreTrainedModel:
    """A tiny model all of which runs in float64: RMS norms of transformers fall back to float32."""
    model = tiny_model(name)
    for parent in list(model.modules()):
        for child_name, child in parent.named_children():
            if type(child).__name__.endswith("RMSNorm"):
                norm = nn.RMSNorm(child.weight.shape, eps=child.variance_epsilon, dtype=torch.float64)
                norm.weight.data.copy_(child.weight.data)
                setattr(parent, child_name, norm)
    return model


def outputs(explainer: Explainer, inputs: Inputs, hook=None, layer: int = 0) -> list[Tensor]:
    """What leaves each block; the last one behind the final norm. `hook` changes the values of `layer`."""
    adapter, block = explainer.adapter, explainer.adapter.family.block
    found: list[Tensor] = []
    module = adapter.layers()[layer]
    earlier = sum(each is module for each in adapter.layers()[:layer])  # ALBERT runs one block several times
    calls = iter(range(adapter.n_layers))

    def change(_module, _args, values):
        return hook(values) if next(calls) == earlier else values

    def leave(_module, _args, output):
        found.append(output[0] if isinstance(output, tuple) else output)

    with ExitStack() as stack, torch.no_grad():
        for each in dict.fromkeys(adapter.layers()):
            stack.callback(each.register_forward_hook(leave).remove)
        if hook:
            stack.callback(module.get_submodule(block.value).register_forward_hook(change).remove)
        if adapter.model.config.model_type == "deberta-v2":  # whose own attention scales by a float32 root
            stack.enter_context(own_attention(adapter.model, Taps()))
        adapter.forward(inputs)
    if path := adapter.family.final_norm:
        found[-1] = adapter.model.base_model.get_submodule(path)(found[-1])
    return found


def cosine_distance(one: Tensor, other: Tensor) -> Tensor:
    return (one / one.norm(dim=-1, keepdim=True) - other / other.norm(dim=-1, keepdim=True)).square().sum(-1) / 2


def zeroing_loop(explainer: Explainer, ids: Tensor, mask: Tensor, distance=cosine_distance, heads=None) -> Tensor:
    """[B, L, N, N] distances, not normalised. heads: of which the values are zeroed (models without groups)."""
    inputs, block = Inputs.of(ids, mask), explainer.adapter.family.block
    clean = outputs(explainer, inputs)
    result = torch.zeros(len(ids), len(clean), ids.shape[1], ids.shape[1], dtype=torch.float64)
    for layer in range(len(clean)):
        for token in range(ids.shape[1]):

            def zeroed(values, token=token):
                values = values.clone()
                own = values[..., values.shape[-1] // 3 * 2 :] if block.fused else values
                kept = own[:, token].unflatten(-1, (-1, own.shape[-1] // explainer.adapter.n_heads)).clone()
                kept[:, slice(None) if heads is None else heads] = 0
                own[:, token] = kept.flatten(1) if heads is not None else 0
                return values

            changed = outputs(explainer, inputs, zeroed, layer)[layer]
            result[:, layer, :, token] = distance(clean[layer], changed)
    return result * mask[:, None, :, None]


def normalised_rows(matrix: Tensor) -> Tensor:
    total = matrix.sum(-1, keepdim=True)
    return torch.where(total > 0, matrix / total, 0.0)
