"""Rules of DeepLift: exact finite differences between an input and a baseline instead of slopes.

A multiplier m says by how much what is explained changes per change of a number: sum(m * (x - b)) is the whole change.
It is carried through every operation exactly: elementwise functions by (f(x) - f(b)) / (x - b), products by the mean of
the other factor over input and baseline, and softmax and normalisation taken apart into such pieces. `node` holds the
operands for the input, `node.compared` those for the baseline.

Source: Shrikumar et al. 2017 (the rescale rule); rules for products, softmax and normalisation are our own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from attribution.relevance.node import Grads, Node

CAPTUM_MODULES = ("ReLU", "ELU", "LeakyReLU", "Sigmoid", "Tanh", "Softplus")
CAPTUM_EPSILON = 1e-10


def _middle(node: Node, place: int) -> Tensor:
    """An operand's mean over input and baseline."""
    return (node.inputs[place] + node.compared.inputs[place]) / 2


def activation_difference(node: Node, arriving: Tensor) -> Grads:
    """The rescale rule."""
    return (
        arriving * slope(node.function, node.inputs[0], node.compared.inputs[0], node.output, node.compared.output),
    )


def slope(function: Callable[[Tensor], Tensor], x: Tensor, b: Tensor, at_x: Tensor, at_b: Tensor) -> Tensor:
    """(f(x) - f(b)) / (x - b); the derivative between them where they are too close for the difference to be exact."""
    change = x - b
    close = change.abs() < torch.finfo(x.dtype).eps ** 0.5
    with torch.enable_grad():
        between = ((x + b) / 2).requires_grad_()
        (derivative,) = torch.autograd.grad(function(between).sum(), between)
    return torch.where(close, derivative, (at_x - at_b) / change.masked_fill(close, 1))


def product_middle(node: Node, arriving: Tensor) -> Grads:
    """x y - b c = (x - b) mid(y) + mid(x) (y - c)."""
    shares = (arriving * _middle(node, 1), arriving * _middle(node, 0))
    return tuple(share.sum_to_size(x.shape) for share, x in zip(shares, node.inputs, strict=True))


def scores_middle(node: Node, arriving: Tensor) -> Grads:
    """query @ key^T, as any product."""
    return arriving @ _middle(node, 1), arriving.transpose(-1, -2) @ _middle(node, 0)


def mix_middle(node: Node, arriving: Tensor) -> Grads:
    """attention @ value, as any product."""
    return arriving @ _middle(node, 1).transpose(-1, -2), _middle(node, 0).transpose(-1, -2) @ arriving


def softmax_difference(node: Node, arriving: Tensor) -> Grads:
    """Softmax of scaled and masked attention scores."""
    scaling, mask = node.extra["scaling"], node.extra["mask"]
    hidden = torch.finfo(node.output.dtype).min  # what a mask of -inf is to a difference
    x, b = ((s * scaling if mask is None else s * scaling + mask).clamp(min=hidden) for s in _both(node))
    return (softmax_multiplier(arriving, x, b, -1) * scaling,)


def _both(node: Node) -> tuple[Tensor, Tensor]:
    """The first operand for the input and for the baseline."""
    return node.inputs[0], node.compared.inputs[0]


def softmax_multiplier(arriving: Tensor, x: Tensor, b: Tensor, dim: int) -> Tensor:
    """Multiplier of softmax = exp(x - log sum exp(x)), its exponentials and its logarithm each by finite differences.

    With L(p, q) = (p - q) / (log p - log q): p_i changes by L(p_i) times the change of x_i - log sum exp(x), which
    changes by sum_i w_i (x_i - b_i), w_i = L(exp x_i, exp b_i) / L(sum exp x, sum exp b), all positive and bounded.
    (The exponential times the reciprocal of their sum would be exact too, but cancels where the sums differ much.)
    """
    log_x, log_b = x.log_softmax(dim), b.log_softmax(dim)
    total_x, total_b = x.logsumexp(dim, keepdim=True), b.logsumexp(dim, keepdim=True)
    to_logs = arriving * torch.maximum(log_x, log_b).exp() * _decay(log_x - log_b)
    weights = (torch.maximum(x, b) - torch.maximum(total_x, total_b)).exp() * _decay(x - b) / _decay(total_x - total_b)
    return to_logs - weights * to_logs.sum(dim, keepdim=True)


def _decay(change: Tensor) -> Tensor:
    """(1 - exp(-t)) / t of t = |change|: L(p, q) in parts of the greater of p and q."""
    t = change.abs()
    return torch.where(t == 0, 1, -torch.expm1(-t) / t.masked_fill(t == 0, 1))


def norm_difference(node: Node, arriving: Tensor) -> Grads:
    """Normalisation: centre (linear), square (a product), mean, square root, quotient, scale and shift.

    The quotient n = d / s by the product it solves, d = n s: it changes by (change of d - mid(n) change of s) / mid(s).
    (A product of d with 1 / s would be exact too, but cancels where a baseline is 0 and 1 / s as large as it gets.)
    """
    weight, eps, centred = node.extra["weight"], node.extra["eps"], node.extra["centred"]
    (x, std_x), (b, std_b) = (_deviation(t, eps, centred=centred) for t in _both(node))
    to_normal = arriving if weight is None else arriving * weight
    to_quotient = to_normal * 2 / (std_x + std_b)
    # change of s = change of s^2 / (s_x + s_b), where s^2 is the mean of squares
    to_std = -(to_quotient * (x / std_x + b / std_b) / 2).sum(-1, keepdim=True)
    to_deviation = to_quotient + to_std * (x + b) / (std_x + std_b) / x.shape[-1]
    return (to_deviation - to_deviation.mean(-1, keepdim=True) if centred else to_deviation,)


def _deviation(x: Tensor, eps: float, *, centred: bool) -> tuple[Tensor, Tensor]:
    """x without its mean, and its standard deviation."""
    deviation = x - x.mean(-1, keepdim=True) if centred else x
    return deviation, (deviation.pow(2).mean(-1, keepdim=True) + eps).sqrt()


def captum_activation(node: Node, arriving: Tensor) -> Grads:
    """Captum's rescale rule, on the modules of torch it knows; the slope at the input on all others."""
    change = node.inputs[0] - node.compared.inputs[0]
    close = change.abs() < CAPTUM_EPSILON
    with torch.enable_grad():
        x = node.inputs[0].detach().requires_grad_()
        (derivative,) = torch.autograd.grad(node.function(x).sum(), x)
    if node.name not in CAPTUM_MODULES:
        return (arriving * derivative,)
    difference = (node.output - node.compared.output) / change.masked_fill(close, 1)
    return (arriving * torch.where(close, derivative, difference),)
