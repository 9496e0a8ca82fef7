"""Strict reading of nested settings: each key known, each value of its kind, each error in the name of its key."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, TypeVar, get_type_hints

from attribution.errors import InputError

T = TypeVar("T")
Reader = Callable[[Any, str], Any]  # value, name of its key -> what it says


def read_fields(cls: Callable[..., T], value: Any, where: str) -> T:
    """A dataclass from a mapping; its fields are `Annotated` with their readers. Those without a default are needed."""
    readers = _readers(cls)
    given = keys_of(value, where, readers)
    if missing := [each.name for each in fields(cls) if each.default is MISSING and each.name not in given]:  # type: ignore[arg-type]
        raise InputError(f"conf error: {where} lacks {missing[0]}.")
    return cls(**{name: readers[name](each, f"{where}.{name}") for name, each in given.items()})


@cache
def _readers(cls: Any) -> dict[str, Reader]:
    hints = get_type_hints(cls, include_extras=True)
    return {each.name: hints[each.name].__metadata__[0] for each in fields(cls)}


def plain(value: Any) -> Any:
    """What was read, as it may be written: only what differs from the defaults."""
    if hasattr(value, "plain"):
        return value.plain()
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(each) for each in value]
    return plain_fields(value) if hasattr(value, "__dataclass_fields__") else value


def plain_fields(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that are not at their defaults."""
    pairs = ((each, getattr(value, each.name)) for each in fields(value))
    return {each.name: plain(found) for each, found in pairs if found != each.default}


def keys_of(value: Any, where: str, known: Iterable[str]) -> Mapping[str, Any]:
    """A mapping with no other keys than the known ones."""
    if not isinstance(value, Mapping):
        raise InputError(f"conf error: {where}={value!r} must be keys with values: {', '.join(known)}.")
    for key in value:
        if key not in known:
            raise InputError(f"conf error: {where} has the key {key!r}, which is not known.{hint(str(key), known)}")
    return value


def hint(wrong: str, known: Iterable[str]) -> str:
    """What was probably meant, and all there is."""
    known = list(known)
    close = difflib.get_close_matches(wrong, known, n=1)
    meant = f" Did you mean {close[0]}?" if close else ""
    return f"{meant} Choose one of: {', '.join(known)}."


def one_of(*choices: str) -> Reader:
    """One of these values."""

    def read(value: Any, where: str) -> Any:
        if value not in choices:
            raise InputError(f"conf error: {where}={value} is not known.{hint(str(value), choices)}")
        return value

    return read


def an(kind: type, what: str) -> Reader:
    """A value of this type; True is no number."""

    def read(value: Any, where: str) -> Any:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise InputError(f"conf error: {where}={value!r} must be {what}.")
        return value

    return read


def positive(value: Any, where: str) -> int:
    """A whole number from 1 on."""
    number: int = integer(value, where)
    if number < 1:
        raise InputError(f"conf error: {where}={value} must be at least 1.")
    return number


def many(reader: Reader, *, least: int = 1) -> Reader:
    """A list with at least so many entries."""

    def read(value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or len(value) < least:
            raise InputError(f"conf error: {where}={value!r} must be a list of at least {least}.")
        return tuple(reader(each, f"{where}[{index}]") for index, each in enumerate(value))

    return read


def named(reader: Reader) -> Reader:
    """A mapping from names of one's own."""

    def read(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, Mapping) or not value:
            raise InputError(f"conf error: {where}={value!r} must be names with values, at least one.")
        return {text(name, where): reader(each, f"{where}.{name}") for name, each in value.items()}

    return read


def nested(cls: type[Any]) -> Reader:
    """A dataclass whose fields are read in turn."""
    return lambda value, where: read_fields(cls, value, where)


text, integer, flag = an(str, "a text"), an(int, "a whole number"), an(bool, "true or false")
