"""Which keys a pattern lets a query attend to: predicates P(query token, key token), made of blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from attribution.draws import uniform
from attribution.errors import InputError
from attribution.patterns import reading
from attribution.patterns.blocks import (
    Block,
    Dependency,
    Key,
    Offset,
    Predicate,
    Query,
    SameSegment,
    SameToken,
    Settings,
)
from attribution.patterns.reading import many
from attribution.patterns.tokens import Tokens


@dataclass(frozen=True)
class And(Block):
    """All of several predicates."""

    name: ClassVar[str] = "and"
    parts: tuple[Predicate, ...]

    @classmethod
    def read(cls, value: Any, where: str) -> Any:
        """From a list of predicates."""
        return cls(many(read_predicate)(value, where))

    def plain(self) -> list[Any]:
        """The predicates."""
        return [write_predicate(part) for part in self.parts]

    @property
    def ahead(self) -> bool:  # type: ignore[override]
        """Where one of them is."""
        return any(part.ahead for part in self.parts)

    def __call__(self, tokens: Tokens) -> Tensor:
        """Bool [B, N, N]."""
        return reduce(torch.logical_and, (part(tokens) for part in self.parts))


class Or(And):
    """Any of several predicates."""

    name: ClassVar[str] = "or"

    @property
    def ahead(self) -> bool:  # type: ignore[override]
        """Where all of them are."""
        return all(part.ahead for part in self.parts)

    def __call__(self, tokens: Tokens) -> Tensor:
        """Bool [B, N, N]."""
        return reduce(torch.logical_or, (part(tokens) for part in self.parts))


@dataclass(frozen=True)
class Not(Block):
    """Where a predicate does not hold."""

    name: ClassVar[str] = "not"
    part: Predicate

    @classmethod
    def read(cls, value: Any, where: str) -> Not:
        """From a predicate."""
        return cls(read_predicate(value, where))

    def plain(self) -> Any:
        """The predicate."""
        return write_predicate(self.part)

    def __call__(self, tokens: Tokens) -> Tensor:
        """Bool [B, N, N]."""
        return ~self.part(tokens)


@dataclass(frozen=True)
class Random(Settings):
    """A control: for every query as many keys as `like` allows it, drawn by place and `seed` alone from all it sees."""

    name: ClassVar[str] = "random"
    like: Annotated[Predicate, read_predicate]
    seed: Annotated[int, reading.integer] = 0

    def plain(self) -> dict[str, Any]:
        """The settings."""
        return {**reading.plain_fields(self), "like": write_predicate(self.like)}

    def __call__(self, tokens: Tokens) -> Tensor:
        """Bool [B, N, N]."""
        count = (self.like(tokens) & tokens.visible).sum(-1, keepdim=True)
        seen = tokens.visible.gather(-1, order := self._order(tokens))
        held = seen & (seen.cumsum(-1) <= count)
        return torch.zeros_like(held).scatter(-1, order, held)

    def _order(self, tokens: Tokens) -> Tensor:
        """[B, N, N]: the keys of each query as they are drawn. Texts that begin at the same place have one order."""
        starts, text = torch.unique(tokens.real.long().argmax(1), return_inverse=True)
        place = torch.arange(tokens.ids.shape[1], device=tokens.ids.device) - starts[:, None]
        drawn = uniform(torch.full_like(starts, self.seed), place, place[:, None, :])
        return drawn.argsort(dim=-1, stable=True)[text]


BLOCKS: dict[str, Any] = {
    each.name: each for each in (SameToken, SameSegment, Offset, Query, Key, Dependency, And, Or, Not, Random)
}


def read_predicate(value: Any, where: str = "pred") -> Predicate:
    """A predicate from a mapping with one key, the name of its block; several are joined by `and` or `or`."""
    given = reading.keys_of(value, where, BLOCKS)
    if len(given) != 1:
        names = ", ".join(given) or "nothing"
        raise InputError(f"conf error: {where} must have one block and has {names}; join several by `and` or `or`.")
    ((name, inside),) = given.items()
    predicate: Predicate = BLOCKS[name].read(inside, f"{where}.{name}")
    return predicate


def write_predicate(predicate: Predicate) -> dict[str, Any]:
    """What `read_predicate` reads."""
    return {predicate.name: predicate.plain()}


def evaluate(predicates: Sequence[Predicate] | Mapping[str, Predicate], tokens: Tokens) -> Tensor:
    """Bool [B, P, N, N]: where each predicate holds, of a real query and a real key that it may see."""
    each = predicates.values() if isinstance(predicates, Mapping) else predicates
    return torch.stack([predicate(tokens) & tokens.visible for predicate in each], dim=1)
