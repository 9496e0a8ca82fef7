"""Gates on heads that learn to close: the hard concrete relaxation of L0, as in Voita et al. 2019 (arXiv 1905.09418).

The weights of the model stay as they are; only the gates are trained, which says which heads the model as it is needs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attribution.errors import InputError
from attribution.heads.outputs import gated, head_outputs
from attribution.heads.rows import Rows, intact, loss_of, rows_of
from attribution.model.adapter import frozen
from attribution.targets import Part

if TYPE_CHECKING:
    from attribution.explainer import Explainer

TEMPERATURE, LOW, HIGH, EDGE = 0.33, -0.1, 1.1, 1e-6
PENALTIES = (0.01, 0.03, 0.1, 0.3)


@dataclass(frozen=True)
class L0Gates:
    """What the gates [L, H] have learnt, and the mean loss of the examples in each step, without the penalty."""

    log_a: Tensor
    penalty: float
    losses: list[float]

    @property
    def p_open(self) -> Tensor:
        """How probable it is that each gate is not closed."""
        return open_probability(self.log_a)

    @property
    def gates(self) -> Tensor:
        """Each gate without noise, from 0 to 1."""
        return settled_gates(self.log_a)

    @property
    def kept(self) -> Tensor:
        """Bool: heads whose gate is not closed."""
        return self.gates > 0


def sampled_gates(log_a: Tensor, uniform: Tensor) -> Tensor:
    """Gates from 0 to 1, both included, of numbers drawn evenly between 0 and 1."""
    drawn = EDGE + (1 - 2 * EDGE) * uniform
    noisy = torch.sigmoid((drawn.log() - (-drawn).log1p() + log_a) / TEMPERATURE)
    return (noisy * (HIGH - LOW) + LOW).clamp(0, 1)


def settled_gates(log_a: Tensor) -> Tensor:
    """The gates of a trained model: no noise, no temperature."""
    return (torch.sigmoid(log_a) * (HIGH - LOW) + LOW).clamp(0, 1)


def open_probability(log_a: Tensor) -> Tensor:
    """How probable it is that a sampled gate is above 0."""
    return torch.sigmoid(log_a - TEMPERATURE * math.log(-LOW / HIGH))


def l0_gates(
    explainer: Explainer,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    penalty: float = 0.1,
    steps: int = 200,
    rate: float = 0.1,
    start: float = 2.0,
    seed: int = 0,
) -> L0Gates:
    """Train gates against the loss of the labels, or of what the intact model predicts, plus `penalty` times the
    number of open gates of a layer, averaged over layers. One batch a step, in turn; `start`: log a before it.
    """
    rows = list(rows_of(explainer, batches))
    if not rows or steps < 1:
        raise InputError("conf error: heads: gates are trained on text, in one step or more; give at least one batch.")
    asked = [each.parts(intact(each)) for each in rows]
    generator = torch.Generator().manual_seed(seed)
    shape = (explainer.adapter.n_layers, explainer.adapter.n_heads)
    log_a = torch.full(shape, start, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([log_a], lr=rate)
    losses = []
    for step in range(steps):
        gates = sampled_gates(log_a, torch.rand(shape, generator=generator, dtype=torch.float64))
        loss = _loss(rows[step % len(rows)], asked[step % len(rows)], gates)
        (gradient,) = torch.autograd.grad(loss + penalty * open_probability(log_a).sum(1).mean(), [log_a])
        log_a.grad = gradient
        optimizer.step()
        losses.append(float(loss.detach()))
    return L0Gates(log_a.detach(), penalty, losses)


def l0_path(
    explainer: Explainer,
    batches: Sequence[Mapping[str, Tensor]],
    *,
    penalties: Sequence[float] = PENALTIES,
    steps: int = 200,
    seed: int = 0,
) -> Tensor:
    """[L, H] how long each head survives: the mean over growing penalties of the probability that it is open."""
    found = [l0_gates(explainer, batches, penalty=each, steps=steps, seed=seed).p_open for each in penalties]
    return torch.stack(found).mean(0)


def _loss(rows: Rows, asked: Sequence[Part], gates: Tensor) -> Tensor:
    """Mean loss of the rows; gradients reach the gates alone."""
    adapter = rows.adapter
    with frozen(adapter.model), head_outputs(adapter, gated(gates.to(adapter.device))), torch.enable_grad():
        return loss_of(asked, rows.logits()).double().mean().cpu()
