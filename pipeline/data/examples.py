"""What a data set is once it is read: examples in one form, whatever file or service they came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Task = Literal["classification", "question_answering", "masked_token"]
Label = str | int | None
Answer = tuple[int, str]  # first character in the context, and the text
Span = tuple[int, int]  # characters, end excluded


@dataclass(frozen=True)
class Example:
    """One text, one pair, or one question (`text`) with its context (`text_b`).

    `answers` is None where the data has none, and empty where the question has no answer. `rationale` are the
    characters a person marked: in `text`, or in `text_b` for question answering. Where a word is to be masked, `asked`
    are its characters, `foil` is the text with its wrong form, `rationale` its cues, and `group` the paradigm.
    """

    row_index: int
    text: str
    text_b: str | None = None
    label: Label = None
    answers: tuple[Answer, ...] | None = None
    rationale: tuple[Span, ...] | None = None
    foil: str | None = None
    asked: Span | None = None
    group: str | None = None

    def content(self) -> list[object]:
        """What tells this example from others, wherever it stands in its file; JSON-able."""
        return [self.text, self.text_b, self.label, self.answers, *([] if self.foil is None else [self.foil])]


@dataclass(frozen=True)
class Dataset:
    """The examples used, in the order of the data, and in `notes` what was guessed, left out or cut on the way."""

    name: str
    task: Task
    examples: Sequence[Example]
    label_names: list[str] | None  # names of integer labels, in order
    fingerprint: str
    notes: list[str]

    def label_name(self, label: Label) -> str | None:
        """The label as the data set spells it."""
        return spelled(label, self.label_names)


def spelled(label: Label, names: Sequence[str] | None) -> str | None:
    """The name of an integer label where there is one, else the label itself."""
    if isinstance(label, int) and names is not None:
        return names[label]
    return None if label is None else str(label)
