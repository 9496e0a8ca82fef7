"""Sentences with dependency trees as batches, for patterns that follow relations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from attribution.heads.alignment import AlignedSentence, Sentence, align
from attribution.patterns.tokens import Arcs

if TYPE_CHECKING:
    from attribution.model.adapter import ModelAdapter


def tree_batches(
    adapter: ModelAdapter, treebank: Sequence[Sentence], size: int = 32
) -> tuple[list[dict[str, Tensor]], tuple[str, ...]]:
    """Batches with `word_ids`, `governors` and `relations` beside the model's inputs, and the names of the relations.

    Sentences that are too long, or whose words are not found in their text, are left out.
    """
    aligned, _ = align(adapter, treebank)
    names = tuple(sorted({name for sentence in aligned for name in sentence.relations}))
    numbers = {name: number for number, name in enumerate(names)}
    return [_batch(adapter, part, numbers) for part in _parts(aligned, size)], names


def arcs_of(batch: Mapping[str, Tensor], names: Sequence[str]) -> Arcs:
    """The trees of such a batch, for running a model with `trees`."""
    return Arcs(batch["word_ids"], batch["governors"], batch["relations"], names)


def _parts(sentences: Sequence[AlignedSentence], size: int) -> Iterator[Sequence[AlignedSentence]]:
    return (sentences[start : start + size] for start in range(0, len(sentences), size))


def _batch(
    adapter: ModelAdapter, sentences: Sequence[AlignedSentence], numbers: Mapping[str, int]
) -> dict[str, Tensor]:
    columns = {
        name: _stacked(
            [np.asarray(each.encoding[name]) for each in sentences], (adapter.pad_id or 0) * (name == "input_ids")
        )
        for name in sentences[0].encoding
    }
    columns["word_ids"] = _stacked([each.word_of for each in sentences], -1)
    columns["governors"] = _stacked([_of_words(each.governors, each) for each in sentences], -1)
    relations = [np.array([numbers[name] for name in each.relations]) for each in sentences]
    columns["relations"] = _stacked([_of_words(r, each) for r, each in zip(relations, sentences, strict=True)], -1)
    return columns


def _of_words(values: np.ndarray, sentence: AlignedSentence) -> np.ndarray:
    """What is known of each word [W], at its tokens [N]; -1 at special tokens."""
    return np.where(sentence.word_of < 0, -1, values[sentence.word_of])


def _stacked(rows: Sequence[np.ndarray], fill: int) -> Tensor:
    return pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True, padding_value=fill)
