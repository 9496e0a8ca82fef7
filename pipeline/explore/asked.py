"""What the page asks for, checked: each request as a dataclass whose fields say how they are read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from starlette.requests import Request

from attribution.errors import InputError
from attribution.patterns import reading
from attribution.patterns.blocks import Predicate
from attribution.patterns.mass import QUERIES
from attribution.patterns.predicates import read_predicate
from attribution.patterns.reading import one_of
from attribution.patterns.schema import Head, Injection, Pattern, read_head

T = TypeVar("T")
BODY = 2**20  # bytes of a request
DEPTH = 24  # of nested lists and mappings in it
TEXT = 2000  # characters of what a person writes
DECISIONS = ("kept", "rejected", "note")


class TooLarge(InputError):
    """A request that is longer than any of ours."""


async def body_of(request: Request) -> Any:
    """JSON of a request; InputError for anything else."""
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
        raise InputError("a request of this kind is JSON: content-type application/json.")
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > BODY:
            raise TooLarge(f"a request has at most {BODY} bytes.")
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise InputError("the request is not JSON.") from None
    _check_depth(value)
    return value


def asked(cls: type[T], value: Any) -> T:
    """A request, its keys and values checked."""
    return reading.read_fields(cls, value, "request")


def _check_depth(value: Any, left: int = DEPTH) -> None:
    if not left:
        raise InputError(f"the request is nested more than {DEPTH} deep.")
    for each in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        _check_depth(each, left - 1)


def _text(value: Any, where: str) -> str:
    text: str = reading.text(value, where)
    if len(text) > TEXT:
        raise InputError(f"{where} has {len(text)} characters; at most {TEXT} are kept.")
    return text


def _needed(value: Any, where: str) -> str:
    text = _text(value, where).strip()
    if not text:
        raise InputError(f"{where} is empty.")
    return text


def _gate(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"{where}={value!r} must be a number from 0 (off) to 1.")
    return float(value)


def _by_head(reader: Any) -> Any:
    def read(value: Any, where: str) -> dict[Head, Any]:
        if not isinstance(value, Mapping):
            raise InputError(f"{where}={value!r} must be heads with values.")
        return {read_head(head, where): reader(each, f"{where}.{head}") for head, each in value.items()}

    return read


def _patterns(value: Any, where: str) -> dict[str, Pattern]:
    found: dict[str, Pattern] = reading.named(reading.nested(Pattern))(value, where)
    return found


@dataclass(frozen=True)
class Measure:
    """The relevance of a predicate; `random`: beside that in models with random weights."""

    predicate: Annotated[Predicate, read_predicate]
    queries: Annotated[str, one_of(*QUERIES)] = QUERIES[0]
    random: Annotated[bool, reading.flag] = False


@dataclass(frozen=True)
class Where:
    """Where a predicate holds in one text, and how much of one head's attention lies there."""

    predicate: Annotated[Predicate, read_predicate]
    document: Annotated[int, reading.integer]
    layer: Annotated[int, reading.integer]
    head: Annotated[int, reading.integer]


@dataclass(frozen=True)
class Extremes:
    """The texts that agree with a predicate most and least, in one head."""

    predicate: Annotated[Predicate, read_predicate]
    layer: Annotated[int, reading.integer]
    head: Annotated[int, reading.integer]
    queries: Annotated[str, one_of(*QUERIES)] = QUERIES[0]


@dataclass(frozen=True)
class Changes:
    """Heads switched off, turned down or given a pattern."""

    gates: Annotated[Mapping[Head, float], _by_head(_gate)]
    patterns: Annotated[Mapping[Head, Pattern], _by_head(reading.nested(Pattern))]


@dataclass(frozen=True)
class Change(Changes):
    """The same, and what is looked at: one text, explained by a method."""

    document: Annotated[int, reading.integer]
    method: Annotated[str, reading.text]


@dataclass(frozen=True)
class Save:
    """Patterns to be saved; `replaces`: the digest of the file that a person has agreed to replace."""

    patterns: Annotated[Mapping[str, Pattern], _patterns]
    person: Annotated[str, _needed]
    why: Annotated[str, _text] = ""
    inject: Annotated[Injection | None, reading.nested(Injection)] = None
    replaces: Annotated[str | None, reading.text] = None


@dataclass(frozen=True)
class Decision:
    """What a person decided of a head, and why."""

    person: Annotated[str, _needed]
    decision: Annotated[str, one_of(*DECISIONS)]
    why: Annotated[str, _needed]
    head: Annotated[str, reading.text] = ""
    pattern: Annotated[str, _text] = ""
