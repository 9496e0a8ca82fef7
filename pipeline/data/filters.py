"""Which examples are used: the filters that need no model, then the first ones or a seeded sample."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

from attribution.errors import InputError
from pipeline.config import DatasetConfig
from pipeline.data.cells import Content
from pipeline.data.examples import Example, spelled


def select(content: Content, config: DatasetConfig) -> tuple[list[Example], list[str]]:
    """The examples used, in the order of the data, and notes on those left out.

    With `min_tokens` it takes a tokenizer to know which count: then all are given, and `draw` takes of those that do.
    """
    if config.limit is not None and config.limit < 1:
        raise InputError(f"conf error: dataset.limit={config.limit} must be at least 1, or null for all.")
    _require_known(content, config)
    examples, notes = list(content.examples), []
    for reason, keep in _filters(content, config):
        kept = [example for example in examples if keep(example)]
        if len(kept) < len(examples):
            notes.append(f"{len(examples) - len(kept)} of {len(examples)} examples left out: {reason}")
        examples = kept
    if not examples:
        raise InputError(nothing_left(config, notes))
    return examples if config.min_tokens else [examples[i] for i in draw(examples, config)], notes


def nothing_left(config: DatasetConfig, notes: Sequence[str]) -> str:
    """The error where all examples were left out, for the reasons in `notes`."""
    where = f".path={config.path}" if config.path else f".id={config.id}" if config.id else f"={config.source}"
    return f"conf error: dataset{where}: no examples are left of the data set: {'; '.join(notes)}."


def _filters(content: Content, config: DatasetConfig) -> list[tuple[str, Callable[[Example], bool]]]:
    """(reason, who stays), in the order applied."""
    filters: list[tuple[str, Callable[[Example], bool]]] = [("empty text", _has_text)]
    if config.keep_labels:
        wanted = set(map(str, config.keep_labels))
        filters.append(
            (f"label not in dataset.keep_labels={config.keep_labels}", lambda e: bool(_spellings(e, content) & wanted))
        )
    if config.skip_unanswerable:
        filters.append(("no answer (dataset.skip_unanswerable)", lambda e: e.answers != ()))
    return filters


def _has_text(example: Example) -> bool:
    return bool(example.text.strip()) and (example.text_b is None or bool(example.text_b.strip()))


def _spellings(example: Example, content: Content) -> set[str]:
    return {str(example.label), str(spelled(example.label, content.label_names))}


def _require_known(content: Content, config: DatasetConfig) -> None:
    known = {name for example in content.examples for name in _spellings(example, content)} - {"None"}
    unknown = [label for label in config.keep_labels or [] if str(label) not in known]
    if unknown:
        raise InputError(
            f"conf error: dataset.keep_labels={config.keep_labels}: {unknown[0]} is not a label of the data; "
            f"its labels are {', '.join(sorted(known)) or 'missing'}."
        )


def draw(examples: Sequence[Example], config: DatasetConfig) -> list[int]:
    """Which: the first `limit` after `skip`, in the order of the data or of a hash, which no other example changes."""
    order, seed = list(range(len(examples))), config.sample_seed
    if seed is not None:
        order.sort(key=lambda i: (_lot(examples[i], seed), i))
    end = len(order) if config.limit is None else config.skip + config.limit
    drawn = order[config.skip : end]
    if not drawn:
        raise InputError(f"conf error: dataset.skip={config.skip} leaves none of {len(order)} examples.")
    return sorted(drawn)


def _lot(example: Example, seed: int) -> bytes:
    return hashlib.sha256(json.dumps([seed, example.content()]).encode()).digest()
