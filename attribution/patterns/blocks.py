"""The blocks of predicates: what may be said of one query token and one key token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol

from torch import Tensor

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
