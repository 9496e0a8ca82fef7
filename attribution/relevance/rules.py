"""Rules: what one operation hands down of what arrives from above.

A rule takes the recorded node and what arrives at its output, and returns what each operand receives.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attribution.errors import UnruledOperation
from attribution.relevance.node import Grads, Kind, Node, Rule

# --- gradients -------------------------------------------------------------------------------------------------------


def identity(node: Node, arriving: Tensor) -> Grads:
    """Everything to the first operand, unchanged."""
    return (arriving,)


def linear_gradient(node: Node, arriving: Tensor) -> Grads:
    """Gradient of x W^T + b for x."""
    return (arriving @ node.inputs[1],)


def add_gradient(node: Node, arriving: Tensor) -> Grads:
    """The same to both operands, summed over the dimensions an operand was broadcast along."""
    return tuple(arriving.sum_to_size(operand.shape) for operand in node.inputs)


def shift_gradient(node: Node, arriving: Tensor) -> Grads:
    """Everything to the operand that is no constant, summed over the dimensions it was broadcast along."""
    return (arriving.sum_to_size(node.inputs[0].shape),)


def scores_gradient(node: Node, arriving: Tensor) -> Grads:
    """Gradient of query @ key^T."""
    query, key = node.inputs
    return arriving @ key, arriving.transpose(-1, -2) @ query


def softmax_gradient(node: Node, arriving: Tensor) -> Grads:
    """Gradient of softmax(scaling * scores + mask)."""
    weighted = arriving * node.output
    return ((weighted - node.output * weighted.sum(-1, keepdim=True)) * node.extra["scaling"],)


def mix_gradient(node: Node, arriving: Tensor) -> Grads:
    """Gradient of attention @ value."""
    attention, value = node.inputs
    return arriving @ value.transpose(-1, -2), attention.transpose(-1, -2) @ arriving


def recomputed_gradient(node: Node, arriving: Tensor) -> Grads:
    """Gradient by running a cheap elementwise operation once more."""
    with torch.enable_grad():
        operands = [
            operand.detach().requires_grad_(need) for operand, need in zip(node.inputs, node.needs, strict=True)
        ]
        result = node.function(*operands)
    wanted = [operand for operand in operands if operand.requires_grad]
    found = iter(torch.autograd.grad(result, wanted, arriving))
    return tuple(next(found) if operand.requires_grad else None for operand in operands)


def gate(node: Node, arriving: Tensor) -> Grads:
    """What flows through a head, times the head's entry in the head mask of this pass."""
    gates = node.current.gates
    return (arriving if gates is None else arriving * gates[:, node.extra["layer"], :, None, None].to(arriving.dtype),)


# --- modified gradients: relevance is read as x * g ------------------------------------------------------------------


def stop(node: Node, arriving: Tensor) -> Grads:
    """Nothing: the operation is treated as a constant."""
    return tuple(None for _ in node.inputs)


def mix_to_value(node: Node, arriving: Tensor) -> Grads:
    """AH-rule (Ali et al. 2022, eq. 10): attention weights are constants, only the values receive."""
    return None, node.inputs[0].transpose(-1, -2) @ arriving


def norm_detached_scale(node: Node, arriving: Tensor) -> Grads:
    """LN-rule (Ali et al. 2022, eq. 11): 1/std is a constant, the mean is not."""
    x, weight = node.inputs[0], node.extra["weight"]
    centred: bool = node.extra["centred"]
    deviation = x - x.mean(-1, keepdim=True) if centred else x
    scaled = arriving * (deviation.pow(2).mean(-1, keepdim=True) + node.extra["eps"]).rsqrt()
    scaled = scaled if weight is None else scaled * weight
    return (scaled - scaled.mean(-1, keepdim=True) if centred else scaled,)


def activation_ratio(node: Node, arriving: Tensor) -> Grads:
    """Identity rule: an activation is its own slope act(x) / x; 0 where x is 0."""
    x = node.inputs[0]
    return (arriving * torch.where(x == 0, 0, node.output / torch.where(x == 0, 1, x)),)


def halved(rule: Rule) -> Rule:
    """Uniform rule (Achtibat et al. 2024, eq. 7): each factor of a product receives half of its gradient."""
    return lambda node, arriving: rule(node, arriving / 2)


def gate_constant(node: Node, arriving: Tensor) -> Grads:
    """CP-LRP on act(gate) * up: the gate is a constant, as attention weights are; only `up` receives."""
    if len(node.extra["gates"]) != 1:
        raise UnruledOperation(
            f"{node.name} at {node.path or 'the model'}: which of its factors is the gate is unknown"
        )
    gradients = recomputed_gradient(node, arriving)
    return tuple(None if place in node.extra["gates"] else one for place, one in enumerate(gradients))


# --- relevance -------------------------------------------------------------------------------------------------------


def epsilon_of(dtype: torch.dtype) -> float:
    """The stabiliser of divisions: 1e-9, or in half precision what the dtype can hold."""
    return 1e-9 if dtype in (torch.float32, torch.float64) else torch.finfo(dtype).eps * 1e-3


def safe_divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / (denominator + 1e-9), 0 where the denominator is 0."""
    epsilon = epsilon_of(denominator.dtype)
    shifted = denominator + epsilon
    shifted.masked_fill_(shifted == 0, epsilon)
    return numerator / shifted.masked_fill_(denominator == 0, torch.inf)


def z_plus(node: Node, relevance: Tensor) -> Grads:
    """alpha1-beta0 on positive products, the bias ignored (Mask-LRP's Linear).

    With x = x+ + x-, W = W+ + W-:  Z = x+ W+ + x- W- = (x W + |x||W|) / 2, and what x receives is
    x+ (S W+) + x- (S W-) = (x (S W) + |x| (S |W|)) / 2 with S = R / Z: three products instead of four.
    """
    x, weight = node.inputs[0], node.inputs[1]
    absolute, magnitude = node.current.absolute(weight), x.abs()
    half_share = relevance * node.keep(lambda: _half_inverse(node, magnitude, absolute))
    return (torch.addcmul(x * (half_share @ weight), magnitude, half_share @ absolute),)


def _half_inverse(node: Node, magnitude: Tensor, absolute: Tensor) -> Tensor:
    """1 / (2 Z) of `z_plus`, 0 where Z is no more than rounding error of its two parts."""
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    product = node.output if bias is None else node.output - bias
    products = magnitude @ absolute.T
    double_z = product + products
    floor = products if bias is None else products.add_(bias.abs())
    nothing = double_z < floor.mul_(8 * torch.finfo(floor.dtype).eps)
    return double_z.add_(2 * epsilon_of(floor.dtype)).reciprocal_().masked_fill_(nothing, 0)


def _epsilon_product(node: Node, relevance: Tensor, *, transposed: bool) -> Grads:
    """Half of the relevance of a @ b (or a @ b^T) to each operand, in proportion to its products."""
    a, b = node.inputs
    share = safe_divide(relevance, node.output) / 2
    to_a = share @ (b if transposed else b.transpose(-1, -2))
    to_b = share.transpose(-1, -2) @ a if transposed else a.transpose(-1, -2) @ share
    return a * to_a, b * to_b


def scores_relevance(node: Node, relevance: Tensor) -> Grads:
    """query @ key^T: each operand receives half, in proportion to its products."""
    return _epsilon_product(node, relevance, transposed=True)


def mix_relevance(node: Node, relevance: Tensor) -> Grads:
    """attention @ value: each operand receives half, in proportion to its products."""
    return _epsilon_product(node, relevance, transposed=False)


def add_relevance(node: Node, relevance: Tensor) -> Grads:
    """Residual rule of Chefer et al. 2021: shares in proportion, then each branch rescaled to |its sum|'s part.

    The sums run per example (the first dimension), so that examples of a batch never mix.
    """
    a, b = node.inputs
    if a.shape != b.shape:
        raise UnruledOperation(f"{node.name} at {node.path} adds shapes {tuple(a.shape)} and {tuple(b.shape)}")
    share = safe_divide(relevance, node.output)
    to_a, to_b = a * share, b * share
    total, sum_a, sum_b = _per_example(relevance), _per_example(to_a), _per_example(to_b)
    whole = sum_a.abs() + sum_b.abs()
    return tuple(
        branch * safe_divide(safe_divide(part.abs(), whole) * total, part)
        for branch, part in ((to_a, sum_a), (to_b, sum_b))
    )


def pool_relevance(node: Node, relevance: Tensor) -> Grads:
    """A sum over positions: each receives in proportion to what it adds, as in the pooling layer of Chefer et al."""
    share = safe_divide(relevance, node.output).unsqueeze(node.extra["dim"])
    return (node.inputs[0] * share,)


def softmax_relevance(node: Node, relevance: Tensor) -> Grads:
    """Softmax and scaling hand everything down; adding the mask follows the residual rule, whose mask side gets 0.

    What is left of that rule is its stabiliser, which the reference's values contain. Rows that a pattern makes attend
    without content, whose scaling is 0, absorb what arrives at them.
    """
    scaling = node.extra["scaling"]
    scores = node.inputs[0] * scaling
    if isinstance(scaling, Tensor):
        relevance = relevance.masked_fill(scaling == 0, 0)
    kept = scores * safe_divide(relevance, scores)
    part = _per_example(kept)
    return (kept * safe_divide(safe_divide(part.abs(), part.abs()) * _per_example(relevance), part),)


def product_relevance(node: Node, relevance: Tensor) -> Grads:
    """Uniform rule (Achtibat et al. 2024, eq. 15): half to each factor. The reference knows no gated models."""
    return relevance / 2, relevance / 2


def fork_relevance(node: Node, relevance: Tensor) -> Grads:
    """Branches add up. The reference copies what enters a block twice on its way, x * (R / x) each time.

    What is left of that is its stabiliser, which the reference's values contain.
    """
    x = node.inputs[0]
    factor = safe_divide(x, x)
    return (relevance * factor * factor,)


def _per_example(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1).view(-1, *(1 for _ in x.shape[1:]))


GRADIENT_RULES = {
    Kind.LINEAR: linear_gradient,
    Kind.ADD: add_gradient,
    Kind.SHIFT: shift_gradient,
    Kind.SCALE: recomputed_gradient,
    Kind.PRODUCT: recomputed_gradient,
    Kind.POOL: recomputed_gradient,
    Kind.NORM: recomputed_gradient,
    Kind.ACTIVATION: recomputed_gradient,
    Kind.SCORES: scores_gradient,
    Kind.SOFTMAX: softmax_gradient,
    Kind.MIX: mix_gradient,
    Kind.FORK: identity,
    Kind.GATE: gate,
    Kind.UNRULED: identity,
}
