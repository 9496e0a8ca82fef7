"""Which column is what: taken from `dataset.columns`, else guessed from its name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches

from attribution.errors import InputError
from pipeline.config import ColumnsConfig
from pipeline.data.examples import Task


@dataclass(frozen=True)
class Layout:
    """Where the texts of a data set are; `first` and `second` name keys of `dataset.columns`."""

    task: Task
    first: str
    second: str | None
    usual: tuple[tuple[str, ...], ...]  # usual column names, in order of preference


QUESTION = Layout("question_answering", "question", "context", (("question", "context"),))
PAIR = Layout(
    "classification",
    "text",
    "text_b",
    (
        ("premise", "hypothesis"),
        ("question1", "question2"),
        ("sentence1", "sentence2"),
        ("question", "sentence"),
        ("text", "text_b"),
        ("text_a", "text_b"),
        ("text1", "text2"),
    ),
)
SINGLE = Layout(
    "classification",
    "text",
    None,
    tuple((name,) for name in ("sentence", "text", "review", "content", "comment", "tweet", "document", "body")),
)
LAYOUTS = (QUESTION, PAIR, SINGLE)

USUAL = {
    "label": ("label", "labels", "gold_label", "gold", "label_name", "sentiment", "class", "category", "is_duplicate"),
    "answers": ("answers", "answer"),
    "rationale": ("rationale", "rationales"),
}


@dataclass(frozen=True)
class Roles:
    """The columns a data set is read from."""

    task: Task
    text: str
    text_b: str | None
    label: str | None
    answers: str | None
    rationale: str | None
    note: str | None  # what was guessed


def find_roles(columns: Collection[str], config: ColumnsConfig) -> Roles:
    """The column of every role. Raises `InputError` with the columns there are."""
    given = {f.name: name for f in fields(config) if (name := getattr(config, f.name)) is not None}
    _require_present(given, columns)
    layout = _layout(given, columns)
    texts = _texts(layout, given, columns)
    optional = {role: given.get(role) or _first(names, columns) for role, names in USUAL.items()}
    if layout.task == "question_answering":
        optional["label"] = given.get("label")
    else:
        optional["answers"] = None
    found = {layout.first: texts[0], **({layout.second: texts[1]} if layout.second else {}), **optional}
    guessed = {key: name for key, name in found.items() if name is not None and key not in given}
    return Roles(layout.task, texts[0], texts[1] if layout.second else None, note=_note(guessed), **optional)


def _require_present(given: Mapping[str, str], columns: Collection[str]) -> None:
    for key, name in given.items():
        if name not in columns:
            close = get_close_matches(name, columns, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise InputError(
                f"conf error: dataset.columns.{key}={name} is not a column of the data; "
                f"its columns are {', '.join(columns)}.{hint}"
            )


def _layout(given: Mapping[str, str], columns: Collection[str]) -> Layout:
    if "question" in given or "context" in given:
        return QUESTION
    if "text_b" in given:
        return PAIR
    if "text" in given:
        return SINGLE
    return next((layout for layout in LAYOUTS if _usual(layout, columns)), SINGLE)


def _texts(layout: Layout, given: Mapping[str, str], columns: Collection[str]) -> tuple[str, ...]:
    """The columns of the layout's texts: those given, the rest from the first usual combination that fits them."""
    keys = [key for key in (layout.first, layout.second) if key is not None]
    if all(key in given for key in keys):
        return tuple(given[key] for key in keys)
    for names in layout.usual:
        if all(name in columns and given.get(key, name) == name for key, name in zip(keys, names, strict=True)):
            return names
    missing = next(key for key in keys if key not in given)
    raise InputError(
        f"conf error: dataset.columns.{missing} cannot be guessed from the columns {', '.join(columns)}; "
        f"set dataset.columns.{missing}=<column>."
    )


def _usual(layout: Layout, columns: Collection[str]) -> bool:
    return any(set(names) <= set(columns) for names in layout.usual)


def _first(names: Sequence[str], columns: Collection[str]) -> str | None:
    return next((name for name in names if name in columns), None)


def _note(guessed: Mapping[str, str]) -> str | None:
    if not guessed:
        return None
    return "columns guessed: " + ", ".join(f"{key}={name}" for key, name in guessed.items())
