"""Examples of which one token is masked, and the two tokens that are to be told apart there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from attribution.errors import InputError
from pipeline.config import Config
from pipeline.data.encode import encoding_notes, noted
from pipeline.data.examples import Dataset, Example
from pipeline.data.filters import nothing_left


def mask_asked(examples: pa.Table, dataset: Dataset, tokenizer: PreTrainedTokenizerBase, config: Config) -> pa.Table:
    """The `EXAMPLES` table with the asked word of each example masked, and both its forms in `choices` by class.

    Examples are left out in which a form has several tokens, or the cue none; notes say how many.
    """
    if tokenizer.mask_token_id is None:
        raise InputError(f"conf error: data set {dataset.name} masks words; the model's tokenizer has no mask token.")
    by_index = {example.row_index: example for example in dataset.examples}
    rows = examples.to_pylist()
    foils = tokenizer([by_index[row["row_index"]].foil for row in rows])["input_ids"]
    pairs = zip(rows, foils, strict=True)
    masked = [_masked(row, foil, by_index[row["row_index"]], tokenizer) for row, foil in pairs]
    kept = [row for row in masked if row is not None]
    notes = encoding_notes(examples)
    if len(kept) < len(rows):
        reason = "one of the two forms is several tokens, or the cue is cut off"
        notes.append(f"{len(rows) - len(kept)} of {len(rows)} examples left out: {reason}")
    if not kept:
        raise InputError(nothing_left(config.dataset, notes))
    return noted(kept, notes)


def differing_token(ids: Sequence[int], others: Sequence[int]) -> int | None:
    """The only place at which two rows of token ids differ; None where it is not one."""
    if len(ids) != len(others):
        return None
    different = [i for i, (a, b) in enumerate(zip(ids, others, strict=True)) if a != b]
    return different[0] if len(different) == 1 else None


def _masked(
    row: Mapping[str, Any], foil: Sequence[int], example: Example, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any] | None:
    ids = list(row["input_ids"])
    place = differing_token(ids, foil)
    if place is None or not any(row["rationale"]):
        return None
    span = row["offsets"][place]
    if (span["start"], span["end"]) != example.asked:
        return None
    choices = [foil[place], ids[place]] if row["label"] == 1 else [ids[place], foil[place]]
    about = {"masked": place, "choices": choices, "group": example.group}
    return {
        **row,
        **about,
        "input_ids": _with(ids, place, tokenizer.mask_token_id),
        "tokens": _with(row["tokens"], place, tokenizer.mask_token),
        "special_tokens": _with(row["special_tokens"], place, True),
    }


def _with(values: Sequence[Any], place: int, value: Any) -> list[Any]:
    return [*values[:place], value, *values[place + 1 :]]
