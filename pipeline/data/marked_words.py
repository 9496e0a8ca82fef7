"""Texts of which words are marked: by spans that count words, or in sentiment trees by each word's own label."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from attribution.errors import InputError
from pipeline.config import DatasetConfig
from pipeline.data.cells import Content, Source, read_examples
from pipeline.data.examples import Example, Span

TREES = ("tokens", "token_label5", "label2")  # words, their labels 0..4, and 0, 1 or nothing for the sentence
NEUTRAL = 2


def read_marked_words(source: Source, config: DatasetConfig) -> Content:
    """Texts whose rationale is [start, end) of their words, which white space divides, as in ERASER's files."""
    content = read_examples(source, config)
    return replace(content, examples=[_in_characters(example, source) for example in content.examples])


def _in_characters(example: Example, source: Source) -> Example:
    if example.rationale is None:
        return example
    words = word_spans(example.text if example.answers is None else example.text_b or "")
    for start, end in example.rationale:
        if not 0 <= start <= end <= len(words):
            raise InputError(
                f"conf error: {source.where}: row {example.row_index + 1} marks the words {start} to {end} of "
                f"{len(words)}."
            )
    spans = tuple((words[start][0], words[end - 1][1]) for start, end in example.rationale if start < end)
    return replace(example, rationale=spans)


def read_sentiment_trees(source: Source, config: DatasetConfig) -> Content:
    """Sentences that are not neutral; marked are the words that people, shown them alone, labelled the same way."""
    absent = [name for name in TREES if name not in source.columns]
    if absent:
        raise InputError(
            f"conf error: {source.where} has no column {absent[0]}; sentiment trees have {', '.join(TREES)}."
        )
    rows = list(zip(*(source.column(name) for name in TREES), strict=True))
    examples = list(_trees(rows))
    left_out = len(rows) - len(examples)
    notes = [f"{left_out} of {len(rows)} sentences are neutral and left out"] if left_out else []
    return Content("classification", examples, list(config.label_names or ["negative", "positive"]), notes)


def _trees(rows: Sequence[tuple[Sequence[str], Sequence[int], Any]]) -> Iterator[Example]:
    for row, (words, labels, label) in enumerate(rows):
        if label is not None:
            text, side = " ".join(words), 1 if label else -1
            marked = [side * (own - NEUTRAL) > 0 for own in labels]
            rationale = tuple(span for span, mark in zip(word_spans(text), marked, strict=True) if mark)
            yield Example(row, text, label=int(label), rationale=rationale)


def word_spans(text: str) -> list[Span]:
    """Characters of each word that white space divides."""
    return [match.span() for match in re.finditer(r"\S+", text)]
