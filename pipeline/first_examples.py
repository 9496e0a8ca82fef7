"""The first examples of a run: what is dear, as other operators or explaining again, is measured on them alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa

from pipeline.microbatch import MicroBatch, without


class FirstPart(NamedTuple):
    """Those of a microbatch: its number, a microbatch of them alone, and their places in the whole."""

    number: int
    batch: MicroBatch
    places: tuple[int, ...]


def first_parts(examples: pa.Table, batches: Sequence[MicroBatch], limit: int | None) -> Iterator[FirstPart]:
    """The first `limit` texts, all windows of each among them; None: all of them."""
    first = _first(examples, limit)
    for number, batch in enumerate(batches):
        if (part := without(batch, set(batch.items) - first)) is not None:
            yield FirstPart(number, part, tuple(place for place, item in enumerate(batch.items) if item in first))


def _first(examples: pa.Table, limit: int | None) -> set[str]:
    rows = examples.select(["item_id", "text_id"]).to_pylist()
    texts = set(list(dict.fromkeys(row["text_id"] or row["item_id"] for row in rows))[:limit])
    return {row["item_id"] for row in rows if (row["text_id"] or row["item_id"]) in texts}
