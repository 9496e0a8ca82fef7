"""Patterns, and where they are to be put, as `patterns.yaml` has them."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml

from attribution.errors import InputError
from attribution.patterns import reading
from attribution.patterns.blocks import Predicate
from attribution.patterns.predicates import read_predicate, write_predicate
from attribution.patterns.reading import many, named, one_of

SCHEMA = 1
MODES = ("mask", "fix")
EDGES = ("self", "cls", "uniform", "original")
IN_PLACE, STUDENT, PAL = TARGETS = ("in_place", "student", "pal")
PER_LAYER, MAPPED, BY_RELEVANCE = STRATEGIES = ("per_layer_cycle", "map", "by_relevance")

Head = tuple[int, int]


def read_head(value: Any, where: str) -> Head:
    """(layer, head) from `3.7`, both counted from 0; a file that has it without quotes gives a number."""
    match = re.fullmatch(r"(\d+)\.(\d+)", value if isinstance(value, str) else "")
    if match is None:
        raise InputError(f'conf error: {where}={value!r} must be a head as layer.head in quotes, "3.7", from "0.0" on.')
    return int(match[1]), int(match[2])


def write_head(head: Head) -> str:
    """What `read_head` reads."""
    return f"{head[0]}.{head[1]}"


def _readable_heads(value: Any, where: str) -> tuple[str, ...]:
    return tuple(write_head(read_head(each, where)) for each in many(reading.text, least=0)(value, where))


def _heads_of_patterns(value: Any, where: str) -> dict[str, str]:
    found: dict[str, str] = {} if value == {} else named(reading.text)(value, where)
    return {write_head(read_head(head, where)): pattern for head, pattern in found.items()}


def _layers(value: Any, where: str) -> str | tuple[int, ...]:
    layers: str | tuple[int, ...] = "all" if value == "all" else many(reading.integer)(value, where)
    return layers


def _date(value: Any, where: str) -> str:
    """YAML makes dates of what looks like one."""
    text: str = reading.text(value.isoformat() if hasattr(value, "isoformat") else value, where)
    return text


@dataclass(frozen=True)
class Pattern:
    """A predicate and what a head does with it.

    mode: `mask` attends by content inside of the pattern, `fix` evenly to all it allows, without content. empty: what
    a row attends to for which the pattern allows no key: `self`, `cls` (the first real token), `uniform` (all real
    tokens, evenly) or `original` (as without a pattern). Left out: `original` under `mask`, `self` under `fix`.
    """

    pred: Annotated[Predicate, read_predicate]
    mode: Annotated[str, one_of(*MODES)] = "mask"
    empty: Annotated[str, one_of(*EDGES)] = ""
    why: Annotated[str, reading.text] = ""
    seen_in: Annotated[tuple[str, ...], _readable_heads] = ()

    @property
    def edge(self) -> str:
        """The policy for rows without a key."""
        return self.empty or ("original" if self.mode == "mask" else "self")

    def plain(self) -> dict[str, Any]:
        """As in a file."""
        return {**reading.plain_fields(self), "pred": write_predicate(self.pred)}


@dataclass(frozen=True)
class Assignment:
    """Which heads get which pattern.

    per_layer_cycle: in every layer heads 0, 1, .. get the patterns of `order` in turn, `heads_per_pattern` times over
    (students have no head of a meaning of its own). map: `heads`, which may be none. by_relevance: the heads for which
    a pattern is significantly relevant, measured first, each the pattern with the most of it; `most` of each pattern.
    """

    strategy: Annotated[str, one_of(*STRATEGIES)]
    order: Annotated[tuple[str, ...], many(reading.text)] = ()
    heads_per_pattern: Annotated[int, reading.positive] = 1
    heads: Annotated[dict[str, str] | None, _heads_of_patterns] = None
    most: Annotated[int | None, reading.positive] = None


@dataclass(frozen=True)
class Projection:
    """Size of a projected attention layer: `width` of all its heads together."""

    width: Annotated[int, reading.positive] = 256
    heads: Annotated[int, reading.positive] = 4


@dataclass(frozen=True)
class Injection:
    """Where patterns go: heads of a trained model (`in_place`), of one to be trained (`student`), or of `pal`."""

    assign: Annotated[Assignment, reading.nested(Assignment)]
    target: Annotated[str, one_of(*TARGETS)] = "in_place"
    layers: Annotated[str | tuple[int, ...], _layers] = "all"
    dropout_on_fixed: Annotated[bool, reading.flag] = False
    pal: Annotated[Projection, reading.nested(Projection)] = Projection()


@dataclass(frozen=True)
class Chosen:
    """Who chose the patterns, when, why, and what they looked at."""

    person: Annotated[str, reading.text]
    date: Annotated[str, _date] = ""
    why: Annotated[str, reading.text] = ""
    evidence: Annotated[tuple[str, ...], many(reading.text)] = ()


def _patterns(value: Any, where: str) -> dict[str, Pattern]:
    found: dict[str, Pattern] = named(reading.nested(Pattern))(value, where)
    return found


def _schema(value: Any, where: str) -> int:
    if value != SCHEMA:
        raise InputError(f"conf error: {where}={value!r} is not a version of this file that is read; write {SCHEMA}.")
    return SCHEMA


@dataclass(frozen=True)
class PatternFile:
    """Patterns by name, where they are to go, and who chose them."""

    patterns: Annotated[Mapping[str, Pattern], _patterns]
    inject: Annotated[Injection | None, reading.nested(Injection)] = None
    chosen_by: Annotated[Chosen | None, reading.nested(Chosen)] = None
    schema: Annotated[int, _schema] = 0  # 0 is never read: writing leaves out what is at its default

    @classmethod
    def read(cls, value: Any, where: str = "patterns") -> PatternFile:
        """From a mapping, as YAML or a model's configuration hold it."""
        if isinstance(value, Mapping) and "schema" not in value:
            raise InputError(f"conf error: {where} lacks schema; write schema: {SCHEMA}.")
        found = reading.read_fields(cls, value, where)
        if found.inject is not None:
            _check(found, found.inject, f"{where}.inject")
        return found

    @classmethod
    def load(cls, path: str | Path) -> PatternFile:
        """From a file; InputError names what is wrong with it."""
        if not Path(path).is_file():
            raise InputError(f"conf error: patterns={path} does not exist; give a patterns.yaml.")
        try:
            value = yaml.load(Path(path).read_text(encoding="utf-8"), _OnceLoader)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"conf error: patterns={path} is not YAML: {' '.join(str(error).split())}") from None
        return cls.read(value, Path(path).name)

    def plain(self) -> dict[str, Any]:
        """As in a file."""
        return {"schema": SCHEMA, **reading.plain_fields(self)}

    def text(self) -> str:
        """The file itself."""
        written: str = yaml.safe_dump(self.plain(), sort_keys=False, allow_unicode=True)
        return written

    def save(self, path: str | Path) -> None:
        """Write what `load` reads."""
        Path(path).write_text(self.text(), encoding="utf-8")


# What each strategy and each target takes; what is given of the rest is refused, and not ignored.
_TAKES = {
    PER_LAYER: ("order", "heads_per_pattern", "layers"), MAPPED: ("heads",), BY_RELEVANCE: ("most", "layers"),
    "in_place": ("dropout_on_fixed",), "student": ("dropout_on_fixed",), "pal": ("pal",),
}  # fmt: skip
_NEEDS = {PER_LAYER: "order", MAPPED: "heads"}


def _check(file: PatternFile, inject: Injection, where: str) -> None:
    assign = inject.assign
    given = {**reading.plain_fields(inject), **reading.plain_fields(assign)}
    taken = {"assign", "target", "strategy", *_TAKES[assign.strategy], *_TAKES[inject.target]}
    for name in given:
        if name not in taken:
            kinds = f"strategy={assign.strategy} and target={inject.target}"
            raise InputError(f"conf error: {where}: {kinds} take no {name}.")
    if (needed := _NEEDS.get(assign.strategy)) and needed not in given:
        raise InputError(f"conf error: {where}: strategy={assign.strategy} needs {needed}.")
    for name in (*assign.order, *(assign.heads or {}).values()):
        if name not in file.patterns:
            known = reading.hint(name, file.patterns)
            raise InputError(f"conf error: {where}.assign names {name}, which is no pattern.{known}")


class _OnceLoader(yaml.SafeLoader):  # type: ignore[misc]
    """Refuses a key that comes twice, of which YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping, each key once."""
        keys = [key.value for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]} comes twice", node.start_mark)
        found: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return found
