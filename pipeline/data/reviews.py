"""The embedded corpus: short hand-written reviews, each with the words that carry its sentiment."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from pipeline.data.examples import Example

SPLITS = ("train", "test")
PHENOMENA = (
    "comparative",
    "contrast",
    "counterfactual",
    "diminisher",
    "intensifier",
    "irony",
    "multiword",
    "negation",
)


@dataclass(frozen=True, kw_only=True)
class Review(Example):
    """A review labelled positive or negative. Its rationale spans are characters of `text`, end excluded."""

    id: str  # film-001
    domain: str
    phenomena: tuple[str, ...]  # those of PHENOMENA that make it harder to read


def load_reviews(split: str) -> list[Review]:
    """The reviews of a split, train or test, in the order of the corpus; `row_index` counts within the split."""
    if split not in SPLITS:
        raise ValueError(f"reviews have the splits {' and '.join(SPLITS)}, not {split}")
    lines = files("pipeline.data").joinpath("reviews.jsonl").read_text(encoding="utf-8").splitlines()
    records = (json.loads(line) for line in lines)
    chosen = (record for record in records if record["split"] == split)
    return [_review(row_index, record) for row_index, record in enumerate(chosen)]


def _review(row_index: int, record: dict[str, Any]) -> Review:
    return Review(
        row_index=row_index,
        text=record["text"],
        label=record["label"],
        rationale=tuple((start, end) for start, end in record["rationale"]),
        id=record["id"],
        domain=record["domain"],
        phenomena=tuple(record["phenomena"]),
    )
