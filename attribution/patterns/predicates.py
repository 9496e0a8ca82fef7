"""Which keys a pattern lets a query attend to: predicates P(query token, key token), made of blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Annotated, Any, ClassVar, Protocol

import torch
from torch import Tensor

from attribution.draws import uniform
from attribution.errors import InputError
from attribution.heads.roles import DIRECTIONS
from attribution.patterns import reading
from attribution.patterns.reading import many, one_of
from attribution.patterns.tokens import SEGMENTS, Tokens
from attribution.patterns.vocabulary import CLASSES


class Predicate(Protocol):
    """A block. Calling it gives bool [B, N, N], query by key; what it says of padding is of no account."""

    name: ClassVar[str]

    def __call__(self, tokens: Tokens) -> Tensor:
        """Bool, [B, N, N] or what broadcasts to it."""

    def plain(self) -> Any:
        """The value of the key `name` in a file."""

    @property
    def ahead(self) -> bool:
        """Whether it is only ever true of keys behind the query."""


class Block:
    """What most blocks are: no claim about the future, and settings that are written as keys."""

    name: ClassVar[str]
    ahead: ClassVar[bool] = False

    def plain(self) -> Any:
        """The settings that are not at their defaults."""
        return reading.plain_fields(self)


class Settings(Block):
    """What a block is whose fields are its settings."""

    @classmethod
    def read(cls, value: Any, where: str) -> Any:
        """From its settings."""
        return reading.read_fields(cls, value, where)


@dataclass(frozen=True)
class SameToken(Settings):
    """Other occurrences of the same token; `exclude_types` takes classes of tokens out, as queries and as keys."""

    name: ClassVar[str] = "same_token"
    casefold: Annotated[bool, reading.flag] = False
    exclude_self: Annotated[bool, reading.flag] = True
    exclude_types: Annotated[tuple[str, ...], many(one_of(*CLASSES), least=0)] = ()

    def __call__(self, tokens: Tokens) -> Tensor:
        """Bool [B, N, N]."""
        spelled = tokens.known(self.name).spelled(tokens.ids) if self.casefold else tokens.ids
        same = spelled[:, :, None] == spelled[:, None, :]
        if self.exclude_self:
            same = same & (tokens.places != 0)
        for each in self.exclude_types:
            kept = ~tokens.has(each)
            same = same & kept[:, :, None] & kept[:, None, :]
        return same


@dataclass(frozen=True)
class SameSegment(Block):
    """Keys of the query's own sentence, block ([CLS] to separator) or text (before the first separator, or after)."""

    name: ClassVar[str] = "same_segment"
    kind: str

    @classmethod
    def read(cls, value: Any, where: str) -> SameSegment:
        """From the kind of segment."""
        return cls(one_of(*SEGMENTS)(value, where))

    def plain(self) -> str:
        """The kind."""
        return self.kind

    def __call__(self, tokens: Tokens) -> Tensor:
        """Bool [B, N, N]; False for tokens outside of any segment."""
        segment = tokens.segments(self.kind)
        return (segment[:, :, None] == segment[:, None, :]) & (segment[:, :, None] >= 0)


@dataclass(frozen=True)
class Offset(Block):
    """Keys at these distances: key - query from `low` to `high`, so that -1 is the token before."""

    name: ClassVar[str] = "offset"
    low: int
    high: int

    @classmethod
    def read(cls, value: Any, where: str) -> Offset:
        """From one number, or the two ends of a range."""
        if isinstance(value, list):
            low, high = ends = many(reading.integer, least=2)(value[:2], where)
            if len(value) == 2 and low <= high:
                return cls(*ends)
            raise InputError(f"conf error: {where}={value} must be one number, or a range [lowest, highest].")
        return cls(*(reading.integer(value, where),) * 2)

    def plain(self) -> int | list[int]:
        """One number or both ends."""
        return self.low if self.low == self.high else [self.low, self.high]

    @property
    def ahead(self) -> bool:  # type: ignore[override]
        """Whether no key at or before the query is meant."""
        return self.low > 0

    def __call__(self, tokens: Tokens) -> Tensor:
        """Bool [1, N, N]."""
        return ((tokens.places >= self.low) & (tokens.places <= self.high))[None]


@dataclass(frozen=True)
class _OfClass(Block):
    token_class: str

    @classmethod
    def read(cls, value: Any, where: str) -> Any:
        """From the name of a class."""
        return cls(one_of(*CLASSES)(value, where))

    def plain(self) -> str:
        """The class."""
        return self.token_class


class Query(_OfClass):
    """Queries of a class of tokens, whatever the key."""

    name: ClassVar[str] = "query"

    def __call__(self, tokens: Tokens) -> Tensor:
        """Bool [B, N, 1]."""
        return tokens.has(self.token_class)[:, :, None]


class Key(_OfClass):
    """Keys of a class of tokens, whatever the query."""

    name: ClassVar[str] = "key"

    def __call__(self, tokens: Tokens) -> Tensor:
        """Bool [B, 1, N]."""
        return tokens.has(self.token_class)[:, None, :]


@dataclass(frozen=True)
class Dependency(Settings):
    """Keys at the other end of an arc: from a dependent to its governor (`dep->head`), or back (`head->dep`)."""

    name: ClassVar[str] = "dependency"
    relation: Annotated[str, reading.text]
    direction: Annotated[str, one_of(*DIRECTIONS)] = DIRECTIONS[0]

    def __call__(self, tokens: Tokens) -> Tensor:
        """Bool [B, N, N]; all tokens of a word stand for it."""
        arcs = tokens.arcs
        if arcs is None:
            raise InputError(
                f"patterns: {self.name} {self.relation} needs trees: batches with word_ids, governors and relations."
            )
        number = arcs.names.index(self.relation) if self.relation in arcs.names else -2
        has = (arcs.relations == number) & (arcs.governors >= 0)
        up = (arcs.governors[:, :, None] == arcs.word_ids[:, None, :]) & has[:, :, None]
        return up if self.direction == DIRECTIONS[0] else up.transpose(1, 2)


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
        place = torch.arange(tokens.ids.shape[1], device=tokens.ids.device) - tokens.real.long().argmax(1, keepdim=True)
        keys = torch.full_like(place[:, 0], self.seed)
        drawn = uniform(keys, place, place[:, None, :]).masked_fill(~tokens.visible, torch.inf)
        return drawn.argsort(dim=-1, stable=True).argsort(-1) < count


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
