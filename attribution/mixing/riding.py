"""Value zeroing of one query: its changed versions ride along in the model's own pass.

One key less for one query is one more row for the feed-forward branch of every layer, and as many rows as there are
keys are worth no pass of their own: the branch of the model computes them together with its own rows, from which they
are taken away again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from attribution.model.adapter import ModelAdapter, frozen
from attribution.model.attention import Taps, own_attention
from attribution.model.inputs import Inputs
from attribution.model.layer import norm_after_attention

# (intact [P, D], changed [P, D]) -> [P]
Measure = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Ride:
    """What one pass with riders needs to know, and what it finds: L x [B, N] distances.

    positions: [B] of the query; heads: float [L, H], 1 where values are taken away.
    """

    adapter: ModelAdapter
    inputs: Inputs
    positions: Tensor
    heads: Tensor
    measure: Measure
    final_norm: bool
    taps: Taps = field(default_factory=Taps)
    found: list[Tensor] = field(default_factory=list)

    def run(self) -> Tensor:
        """[B, L, N]."""
        columns = self.positions[:, None] if self.adapter.is_generative else None  # as few logits as can be
        with torch.no_grad(), frozen(self.adapter.model), own_attention(self.adapter.model, self.taps), self._hooks():
            self.adapter.forward(self.inputs, columns)
        return torch.stack(self.found, 1)

    @contextmanager
    def _hooks(self) -> Iterator[None]:
        block = self.adapter.family.block
        with ExitStack() as stack:
            for module in dict.fromkeys(self.adapter.layers()):
                first, last = (module.get_submodule(path) for path in (block.mlp[0], block.mlp[-1]))
                stack.callback(norm_after_attention(module, block).register_forward_pre_hook(self._vary).remove)
                stack.callback(first.register_forward_pre_hook(self._board).remove)
                stack.callback(last.register_forward_hook(self._leave).remove)
            yield

    def _vary(self, _norm: nn.Module, args: tuple[Any, ...]) -> None:
        """From the sums z [B, N, D] those of the query, intact and without each key that it attends to."""
        sums, self._layer = args[0], self.adapter.layer(len(self.found), final_norm=self.final_norm)
        example = torch.arange(len(sums), device=sums.device)
        weights = self.taps.attention[-1][example, :, self.positions].transpose(1, 2) * self.heads[len(self.found)]
        self._wanted = weights.ne(0).any(2)
        self._examples, keys = self._wanted.nonzero(as_tuple=True)
        taken = weights[self._examples, keys, :, None] * self.taps.values[-1][self._examples, :, keys]
        whole = sums[example, self.positions]
        z = torch.cat((whole, whole[self._examples] - taken.flatten(1) @ self._layer.heads.flatten(0, 1)))
        self._normed = self._layer.middle(z)
        self._residual = self._layer.beside(z, self._normed)

    def _board(self, _branch: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The branch's own rows [B, N, D] and the riders, as [1, B * N + B + P, D]; in the last layer riders alone."""
        own = args[0].flatten(0, 1)[: 0 if self._at_top else None]
        return (torch.cat((own, self._normed))[None], *args[1:])

    def _leave(self, _branch: nn.Module, _args: object, output: Tensor) -> Tensor:
        """Measures the riders and gives the branch its own rows back; nothing reads those of the last layer."""
        shape, layer, count = self.inputs.shape, self._layer, len(self._residual)
        total = output[0, -count:] + self._residual
        leaving = layer.last(total) if layer.last else total
        distances = torch.zeros_like(self._wanted, dtype=output.dtype)
        distances[self._wanted] = self.measure(leaving[: shape[0]][self._examples], leaving[shape[0] :])
        own = output.new_zeros(shape[0] * shape[1], output.shape[2]) if self._at_top else output[0, :-count]
        self.found.append(distances)
        return own.view(*shape, -1)

    @property
    def _at_top(self) -> bool:
        return len(self.found) == self.adapter.n_layers - 1
