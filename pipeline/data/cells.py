"""From the cells of a table to examples: texts, labels, answers and rationales, each checked as it is read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from attribution.errors import InputError
from pipeline.config import DatasetConfig
from pipeline.data.columns import Roles, find_roles
from pipeline.data.examples import Answer, Example, Label, Span, Task

NO_LABEL = (None, "", "-")  # how data sets write that annotators did not agree; so do negative integers
_INTEGER = re.compile(r"[+-]?\d+(\.0*)?")


@dataclass(frozen=True)
class Source:
    """A table as it is stored. `where` names the configuration key and its value, for errors."""

    name: str
    where: str
    columns: Sequence[str]
    column: Callable[[str], Sequence[Any]]
    label_names: Mapping[str, list[str]] = field(default_factory=dict)  # column -> names of its integer labels


@dataclass(frozen=True)
class Content:
    """All examples of a source, before any is left out."""

    task: Task
    examples: Sequence[Example]
    label_names: list[str] | None
    notes: list[str]


def read_examples(source: Source, config: DatasetConfig) -> Content:
    """Every row of `source` as an example, `row_index` counting from 0."""
    roles = find_roles(source.columns, config.columns)
    texts = _texts(source, roles.text)
    n = len(texts)
    contexts = _texts(source, roles.text_b) if roles.text_b else [None] * n
    labels = _labels(source, roles.label) if roles.label else [None] * n
    names = config.label_names or source.label_names.get(roles.label or "")
    _require_names(labels, names, source)
    answers, notes = _answers(source, roles, contexts)
    rationales = [_spans(cell) for cell in _cells(source, roles.rationale, n)]
    rows = zip(range(n), texts, contexts, labels, answers, rationales, strict=True)
    notes = [*([roles.note] if roles.note else []), *notes, *_unlabelled(labels, roles)]
    return Content(roles.task, [Example(*row) for row in rows], list(names) if names else None, notes)


def _cells(source: Source, column: str | None, n: int) -> Sequence[Any]:
    return source.column(column) if column else [None] * n


def _texts(source: Source, column: str) -> list[str]:
    return [_text(cell, row, column, source) for row, cell in enumerate(source.column(column))]


def _text(cell: object, row: int, column: str, source: Source) -> str:
    """The text of a cell; a missing one is empty."""
    if cell is None:
        return ""
    if not isinstance(cell, str):
        raise InputError(
            f"conf error: {source.where}: column {column} must hold text in every row, "
            f"but row {row + 1} holds {type(cell).__name__} {str(cell)[:40]!r}; choose another by dataset.columns."
        )
    if not cell.isascii() and any("\ud800" <= char <= "\udfff" for char in cell):
        raise InputError(f"conf error: {source.where}: row {row + 1} of column {column} holds half a surrogate pair.")
    return cell


def _labels(source: Source, column: str) -> list[Label]:
    """Integers where every label is one, else strings; None where a row has no gold label."""
    cells = [None if cell in NO_LABEL else cell for cell in source.column(column)]
    given = [cell for cell in cells if cell is not None]
    kinds = Counter(_kind(cell) for cell in given)
    if set(kinds) <= {"integer"}:
        return [None if cell is None or int(float(cell)) < 0 else int(float(cell)) for cell in cells]
    if all(isinstance(cell, str) for cell in given):
        return [cell if cell is None else cell.strip() for cell in cells]
    seen = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
    raise InputError(
        f"conf error: {source.where}: column {column} must hold one kind of label, integers or names, but "
        f"holds {seen}; choose another by dataset.columns.label."
    )


def _kind(cell: object) -> str:
    written = str(int(cell)) if isinstance(cell, bool) else str(cell)
    return "integer" if _INTEGER.fullmatch(written) else type(cell).__name__


def _require_names(labels: Iterable[Label], names: Sequence[str] | None, source: Source) -> None:
    highest = max((label for label in labels if isinstance(label, int)), default=-1)
    if names is not None and highest >= len(names):
        raise InputError(
            f"conf error: dataset.label_names={list(names)} names {len(names)} labels, "
            f"but {source.where} has label {highest}."
        )


def _unlabelled(labels: Sequence[Label], roles: Roles) -> list[str]:
    missing = sum(label is None for label in labels)
    return [f"{missing} of {len(labels)} examples have no gold label"] if roles.label and missing else []


def _answers(
    source: Source, roles: Roles, contexts: Sequence[str | None]
) -> tuple[list[tuple[Answer, ...] | None], list[str]]:
    """Gold answers of every row, those that do not stand where they say left out."""
    if roles.answers is None:
        return [None] * len(contexts), []
    cells = source.column(roles.answers)
    if "answer_start" in source.columns:
        cells = list(zip(source.column("answer_start"), cells, strict=True))
    read = [_answer_list(cell, context or "") for cell, context in zip(cells, contexts, strict=True)]
    kept = [tuple(a for a in row if _stands(a, c or "")) for row, c in zip(read, contexts, strict=True)]
    wrong = sum(len(row) for row in read) - sum(len(row) for row in kept)
    return list(kept), [f"{wrong} answers do not stand at their place in the context and are left out"] if wrong else []


def _answer_list(cell: Any, context: str) -> list[Answer]:
    """Any of the usual shapes: SQuAD's dictionary of lists, a list of dictionaries, (start, text), or a bare text."""
    match cell:
        case {"text": [*texts], "answer_start": [*starts]}:
            return list(zip(map(int, starts), texts, strict=True))
        case {"text": str(text), "answer_start": start}:
            return [(int(start), text)]
        case [*answers] if all(isinstance(answer, dict) for answer in answers):
            return [pair for answer in answers for pair in _answer_list(answer, context)]
        case (start, str(text)) if text and start not in NO_LABEL and int(start) >= 0:
            return [(int(start), text)]
        case str(text) if text:
            return [(context.find(text), text)]
    return []


def _stands(answer: Answer, context: str) -> bool:
    start, text = answer
    return start >= 0 and bool(text) and context.startswith(text, start)


def _spans(cell: Any) -> tuple[Span, ...] | None:
    """Character spans written as [start, end] or {start, end}."""
    if cell is None or cell == "":
        return None
    pairs = [(span["start"], span["end"]) if isinstance(span, dict) else tuple(span) for span in cell]
    return tuple((int(start), int(end)) for start, end in pairs)
