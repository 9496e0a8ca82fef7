"""Which examples share a pass. The padded length is a function of the example alone, never of its neighbours."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from attribution.model.inputs import Inputs
from attribution.perturb import bucket_widths
from attribution.words import join_fields, sentence_ids
from pipeline.keys import digest

if TYPE_CHECKING:
    from pipeline.config import ClusterConfig


@dataclass(frozen=True)
class MicroBatch:
    """Examples that share a pass and a file: rows of the examples table, and the length they are padded to."""

    rows: tuple[int, ...]
    items: tuple[str, ...]
    length: int

    @cached_property
    def digest(self) -> str:
        """Of what is computed: the items and the shape of their pass, wherever they stand in the table."""
        return digest({"items": self.items, "length": self.length})


def plan_microbatches(
    examples: pa.Table, cluster: ClusterConfig, max_length: int, rows: Sequence[int] | None = None
) -> list[MicroBatch]:
    """All examples, or these rows, in microbatches of one length each, in the order of the data, so that new ones go to
    the end.
    """
    lengths = torch.tensor(_lengths(examples))
    widths = bucket_widths(lengths, max_length).tolist()
    buckets: dict[int, list[int]] = {}
    for row in range(len(widths)) if rows is None else rows:
        buckets.setdefault(widths[row], []).append(row)
    items = examples["item_id"].to_pylist()
    return [
        MicroBatch(tuple(rows), tuple(items[row] for row in rows), width)
        for width, members in sorted(buckets.items())
        for rows in _chunks(members, max(1, min(cluster.max_batch, cluster.batch_tokens // width)))
    ]


def without(batch: MicroBatch, items: Collection[str]) -> MicroBatch | None:
    """A microbatch without some of its examples, in passes of the same length; None if no example is left."""
    kept = [(row, item) for row, item in zip(batch.rows, batch.items, strict=True) if item not in items]
    rows, left = zip(*kept, strict=True) if kept else ((), ())
    return MicroBatch(rows, left, batch.length) if kept else None


def _lengths(examples: pa.Table) -> list[int]:
    return [len(ids) for ids in examples["input_ids"]]


def _chunks(members: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (members[start : start + size] for start in range(0, len(members), size))


def inputs_of(rows: Sequence[Mapping[str, Any]], length: int, pad_id: int, *, segment_ids: bool = True) -> Inputs:
    """Rows of the examples table as a right-padded batch [B, length]; `segment_ids` false leaves them to the model."""
    ids = padded([row["input_ids"] for row in rows], length, pad_id)
    mask = padded([[1] * len(row["input_ids"]) for row in rows], length, 0)
    special = padded([row["special_tokens"] for row in rows], length, 1)
    types = None
    if segment_ids and rows[0]["token_type_ids"] is not None:
        types = torch.from_numpy(padded([row["token_type_ids"] for row in rows], length, 0))
    return Inputs.of(
        torch.from_numpy(ids),
        torch.from_numpy(mask),
        token_type_ids=types,
        special_tokens_mask=torch.from_numpy(special),
    )


def units_of(rows: Sequence[Mapping[str, Any]], length: int, kinds: Collection[str]) -> dict[str, Tensor]:
    """Word and sentence ids [B, length] over the whole input, those of them that methods with a `unit` ask for."""
    units = {}
    if "word" in kinds:
        fields = torch.from_numpy(padded([row["field_ids"] for row in rows], length, -1))
        words = torch.from_numpy(padded([row["word_ids"] for row in rows], length, -1))
        units["word_ids"] = join_fields(words, fields)
    if "sentence" in kinds:
        units["sentence_ids"] = torch.from_numpy(padded([_sentences(row) for row in rows], length, -1))
    return units


def _sentences(row: Mapping[str, Any]) -> list[int]:
    offsets = [(span["start"], span["end"]) for span in row["offsets"]]
    return sentence_ids(row["field_ids"], offsets, (row["text"], row["text_b"]))


def padded(rows: Sequence[Sequence[int]], length: int, fill: int) -> NDArray[np.int64]:
    """Rows of different length as one array [B, length]."""
    array = np.full((len(rows), length), fill, dtype=np.int64)
    for i, row in enumerate(rows):
        array[i, : len(row)] = row
    return array
