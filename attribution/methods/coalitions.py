"""Which coalitions of units are run: all of few units, those of the Shapley kernel, or those along random orders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from attribution.draws import ranks, uniform
from attribution.methods.units import Units

SIZE, MEMBERS = 1, 2  # what a draw is for


class Every(NamedTuple):
    """All coalitions of rows whose units are few enough for S: `exact` bool [B] says which.

    kept: bool [B, S, U]. asked: bool [B, S], the coalitions there are; all S of the other rows.
    """

    exact: Tensor
    kept: Tensor
    asked: Tensor


def every_coalition(units: Units, budget: int) -> Every:
    """Coalition s of an exact row keeps the units whose bits are set in s."""
    most, device = budget.bit_length() - 1, units.ids.device
    number, place = torch.arange(budget, device=device), torch.arange(units.members.shape[1], device=device)
    kept = ((number[:, None] >> place.clamp(max=62)) & 1).bool() | ~units.members[:, None]
    exact = units.count <= most
    return Every(exact, kept, ~exact[:, None] | (number < 2 ** units.count.clamp(max=most)[:, None]))


def shapley_weights(kept: Tensor, units: Units) -> Tensor:
    """Weights [B, S, U] with which the values of all coalitions add up to each unit's Shapley value; float64.

    A coalition of s units counts (s-1)! (n-s)! / n! for its members and -s! (n-s-1)! / n! for the others.
    """
    size = (kept & units.members[:, None]).sum(-1).double()
    count = units.count[:, None].clamp(min=1).double()

    def share(before: Tensor) -> Tensor:
        before = torch.minimum(before.clamp(min=0), count - 1)
        return (torch.lgamma(before + 1) + torch.lgamma(count - before) - torch.lgamma(count + 1)).exp()[..., None]

    return torch.where(kept, share(size - 1), -share(size)) * units.members[:, None]


def kernel_coalitions(keys: Tensor, units: Units, pairs: int) -> Tensor:
    """Coalitions drawn by the Shapley kernel, each followed by its complement: bool [B, 2 * pairs, U].

    A size s of n units has probability proportional to 1 / (s (n - s)); within it all coalitions are alike.
    """
    count = units.count[:, None].double()
    size = torch.arange(1, max(2, units.members.shape[1]), device=keys.device).double()
    weight = torch.where(size < count, 1 / (size * (count - size)), 0)
    levels = weight.cumsum(1) / weight.sum(1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    drawn = torch.searchsorted(levels, uniform(keys + SIZE, pairs), right=True) + 1
    chosen = ranks(keys + MEMBERS, units.members, pairs) < torch.minimum(drawn, units.count[:, None] - 1)[..., None]
    return torch.stack((chosen, ~chosen), 2).flatten(1, 2)


def orders(keys: Tensor, units: Units, number: int) -> Tensor:
    """Place of each unit in `number` random orders [B, number, U]; every second is the one before it reversed."""
    drawn = ranks(keys, units.members, (number + 1) // 2)
    return torch.stack((drawn, units.count[:, None, None] - 1 - drawn), 2).flatten(1, 2)[:, :number]


@dataclass(frozen=True)
class Walk:
    """Coalitions met along random orders. The s-th keeps the first `step` [B, S] units of order `path` [B, S]."""

    orders: Tensor  # [B, P, U]
    count: Tensor  # [B] units of each row
    number: Tensor  # [B] how many orders of P each row has
    path: Tensor
    step: Tensor

    @classmethod
    def of(cls, keys: Tensor, units: Units, budget: int) -> Walk:
        """As many whole orders of each row as `budget` coalitions make, at least one."""
        inner = (units.count - 1).clamp(min=1)
        number = (budget // inner).clamp(min=1)
        slots = torch.arange(max(budget, int(inner.max())), device=keys.device)
        path, step = slots // inner[:, None], slots % inner[:, None] + 1
        return cls(orders(keys, units, int(number.max())), units.count, number, path, step)

    @property
    def asked(self) -> Tensor:
        """Bool [B, S]: the coalitions there are."""
        return (self.path < self.number[:, None]) & (self.step < self.count[:, None])

    @property
    def kept(self) -> Tensor:
        """Bool [B, S, U]."""
        return self._places < self.step[..., None]

    @property
    def _places(self) -> Tensor:
        path = self.path.clamp(max=self.orders.shape[1] - 1)
        return self.orders.gather(1, path[..., None].expand(-1, -1, self.orders.shape[2]))

    def contributions(self, values: Tensor) -> Tensor:
        """What each unit adds on average, [B, U]; values [B, 2 + S], those of the full and the empty one first."""
        places, step = self._places, self.step[..., None]
        sign = (places == step - 1).to(values.dtype) - (places == step).to(values.dtype)
        inside = (sign * (values[:, 2:] * self.asked)[..., None]).sum(1)
        used = (torch.arange(self.orders.shape[1], device=values.device) < self.number[:, None])[..., None]
        last = ((self.orders == self.count[:, None, None] - 1) & used).sum(1)
        first = ((self.orders == 0) & used).sum(1)
        return (inside + values[:, :1] * last - values[:, 1:2] * first) / self.number[:, None]
