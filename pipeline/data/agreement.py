"""BLiMP's number agreement as examples: a sentence with one word to be masked, the wrong form of it, and its cues."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import accumulate
from typing import Any

from attribution.errors import InputError
from pipeline.config import DatasetConfig
from pipeline.data.agreement_rules import CUES, NUMBERS, PARADIGMS, Pair, checksum, sentence_of
from pipeline.data.cells import Content, Source
from pipeline.data.examples import Example, Span

COLUMNS = (
    ("uid", "pair", "good", "bad"),
    ("UID", "pairID", "sentence_good", "sentence_bad"),
)  # the latter as published
SPLITS = ("test", "train", "all")


def read_agreement(source: Source, config: DatasetConfig) -> Content:
    """The pairs of a table that have a cue; label and class is the number of the right form."""
    names = next((names for names in COLUMNS if set(names) <= set(source.columns)), None)
    if names is None:
        raise InputError(f"conf error: {source.where} has no columns {', '.join(COLUMNS[1])}, which BLiMP has.")
    split = config.split or "test"
    if split not in SPLITS:
        raise InputError(f"conf error: dataset.split={split} is not a split of agreement; choose {', '.join(SPLITS)}.")
    rows = list(zip(*(source.column(name) for name in names), strict=True))
    examples = [example for i, row in enumerate(rows) if (example := _example(i, row, split)) is not None]
    notes = [f"{len(examples)} of {len(rows)} pairs are of split {split} and have a cue by rule"]
    return Content("masked_token", examples, list(NUMBERS), notes)


def _example(index: int, row: Sequence[Any], split: str) -> Example | None:
    """One pair; None where it has no cue, or is of another split."""
    uid, number, good, bad = (str(cell) for cell in row)
    known = cues().get((PARADIGMS[uid].id, number)) if uid in PARADIGMS else None
    if known is None or split not in ("all", known["split"]) or known["check"] != checksum(good, bad):
        return None
    pair = Pair.of(good, bad)
    spans = _spans(pair.good)
    marked = tuple(spans[int(word)] for word in known["cues"].split())
    target = spans[int(known["target"])]
    text, foil = sentence_of(pair.good), sentence_of(pair.bad)
    about: dict[str, Any] = {"rationale": marked, "asked": target, "group": known["paradigm"]}
    return Example(index, text, label=known["number"], foil=foil, **about)


def _spans(words: Sequence[str]) -> list[Span]:
    """Characters of each word in the sentence of these words."""
    ends = accumulate(len(word) + 1 for word in words)
    return [(end - 1 - len(word), end - 1) for word, end in zip(words, ends, strict=True)]


@cache
def cues() -> Mapping[tuple[str, str], dict[str, str]]:
    """The rows of the cue file, by paradigm and number of the pair."""
    return {(row["paradigm"], row["pair"]): row for row in _rows()}


def _rows() -> Iterator[dict[str, str]]:
    with CUES.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file, delimiter="\t")
