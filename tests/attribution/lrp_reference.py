"""LRP in gradient form by plain torch on stock models: what is constant is detached, and autograd does the rest.

Written after the papers (Ali et al. 2022, eq. 10 and 11; Achtibat et al. 2024, eq. 7, 9) and without our recording.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, activations
from transformers.masking_utils import eager_mask


@dataclass(frozen=True)
class Variant:
    """What one method changes of a plain gradient."""

    heads: str = "gradient"  # constant, uniform
    norms: bool = True  # 1/std constant
    gate: str = "uniform"  # constant


VARIANTS = {
    "lrp_ah": Variant(heads="constant", norms=False),
    "lrp_ln": Variant(),
    "lrp_ah_ln": Variant(heads="constant"),
    "cp_lrp": Variant(heads="constant", gate="constant"),
    "attn_lrp": Variant(heads="uniform"),
}
ACTIVATIONS = (activations.GELUActivation, activations.NewGELUActivation, nn.SiLU, activations.SiLUActivation, nn.Tanh)
ABSORBING = ("position_embeddings.weight", "token_type_embeddings.weight", "wpe.weight")


def divided(x, factor):
    """x, whose gradient is divided by `factor`."""
    return x / factor + (x - x / factor).detach()


def constant_slope(function, x):
    """f(x) = (f(x) / x) x with the ratio held constant."""
    return x * (function(x) / x).detach()


def attention_of(variant):
    def forward(module, query, key, value, attention_mask, scaling=None, **kwargs):
        repeat = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1)
        if variant.heads == "uniform":
            query, key, value = divided(query, 4), divided(key, 4), divided(value, 2)
        scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        weights = (scores if attention_mask is None else scores + attention_mask).softmax(-1)
        weights = weights.detach() if variant.heads == "constant" else weights
        return (weights @ value).transpose(1, 2).contiguous(), weights

    return forward


def norm_of(module):
    centred = isinstance(module, nn.LayerNorm)
    eps = module.eps if centred else module.variance_epsilon

    def forward(x):
        deviation = x - x.mean(-1, keepdim=True) if centred else x
        normal = deviation / (deviation.pow(2).mean(-1, keepdim=True) + eps).sqrt().detach()
        return normal * module.weight + (module.bias if centred else 0)

    return forward


def gated(module, variant):
    def forward(x):
        gate, up = constant_slope(module.act_fn, module.gate_proj(x)), module.up_proj(x)
        both = gate.detach() * up if variant.gate == "constant" else divided(gate * up, 2)
        return module.down_proj(both)

    return forward


def plain_rms(module):
    """Stock RMS norms compute in float32 whatever the model's dtype; this one does not."""
    return lambda x: module.weight * x * (x.pow(2).mean(-1, keepdim=True) + module.variance_epsilon).rsqrt()


def rotary(module):
    """Stock rotary positions are computed in float32 too."""

    def forward(x, position_ids):
        angles = position_ids[..., None].to(x.dtype) * module.inv_freq.to(x.dtype)
        both = torch.cat((angles, angles), -1)
        return both.cos(), both.sin()

    return forward


def replacement(module, variant):
    """What a module does instead, or None."""
    name = type(module).__name__
    if isinstance(module, nn.LayerNorm) or name.endswith("RMSNorm"):
        if variant.norms:
            return norm_of(module)
        return plain_rms(module) if name.endswith("RMSNorm") else None
    if name.endswith("RotaryEmbedding"):
        return rotary(module)
    if name.endswith("MLP") and hasattr(module, "gate_proj"):
        return gated(module, variant)
    if isinstance(module, ACTIVATIONS):
        forward = module.forward
        return lambda x: constant_slope(forward, x)
    return None


@contextmanager
def following(model, variant):
    """Let `model` follow the rules of a variant."""
    before = model.config._attn_implementation
    AttentionInterface.register("lrp_reference", attention_of(variant))
    AttentionMaskInterface.register("lrp_reference", eager_mask)
    replaced = {m: new for m in model.modules() if (new := replacement(m, variant)) is not None}
    try:
        model.config._attn_implementation = "lrp_reference"
        for module, forward in replaced.items():
            module.forward = forward
        yield
    finally:
        model.config._attn_implementation = before
        for module in replaced:
            del module.forward


def reference(model, variant, read, *, parameters=False, **inputs):
    """Relevance [B, N, D] of the word embeddings for what `read(output)` explains of each row [B].

    parameters: also the sums over the batch of parameter times gradient, of biases and of positions.
    """
    names = dict(model.named_parameters())
    model.requires_grad_(False)
    absorbing = {n: p for n, p in names.items() if n.endswith(("bias", *ABSORBING))} if parameters else {}
    for parameter in absorbing.values():
        parameter.requires_grad_(True)
    seen = []
    hook = model.get_input_embeddings().register_forward_hook(lambda m, i, o: seen.append(o.requires_grad_()))
    with following(model, variant):
        explained = read(model(**inputs))
    hook.remove()
    taps = [seen[0], *absorbing.values()]
    found = torch.autograd.grad(explained.sum(), taps, allow_unused=True)
    relevance = (seen[0] * found[0]).detach()
    shares = {"biases": 0.0, "positions": 0.0}
    for (name, parameter), gradient in zip(absorbing.items(), found[1:], strict=True):
        kind = "biases" if name.endswith("bias") else "positions"
        shares[kind] += 0.0 if gradient is None else (parameter * gradient).sum().item()
    model.requires_grad_(True)
    return (relevance, shares) if parameters else relevance
