"""Which tokens make which word of a treebank, by the characters they cover."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from attribution.errors import InputError

if TYPE_CHECKING:
    from attribution.model.adapter import ModelAdapter

Span = tuple[int, int]
Sentence = tuple[str, Sequence[str], Sequence[int], Sequence[str]]  # text, words, 1-based governors (0 root), relations
Integers = npt.NDArray[np.int64]

_PER_TOKEN = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class AlignedSentence:
    """One treebank sentence as the model reads it.

    `encoding` has the model's inputs per token; `word_of` [N] the word of each token, -1 for special tokens;
    `first` [W] the first token of each word, -1 for a word that has no token of its own.
    """

    encoding: dict[str, list[int]]
    word_of: Integers
    first: Integers
    governors: Integers
    relations: Sequence[str]


def locate_words(text: str, words: Sequence[str]) -> list[Span] | None:
    """Character spans of the words in their order, or None where one is not in the text.

    White space is ignored on both sides (some forms hold a no-break space); only punctuation may lie between words.
    """
    kept = [position for position, character in enumerate(text) if not character.isspace()]
    dense = "".join(text[position] for position in kept)
    spans, at = [], 0
    for word in words:
        form = "".join(word.split())
        start = dense.find(form, at)
        if not form or start < 0 or any(character.isalnum() for character in dense[at:start]):
            return None
        at = start + len(form)
        spans.append((kept[start], kept[at - 1] + 1))
    return spans


def words_of_tokens(offsets: Sequence[Span], spans: Sequence[Span]) -> Integers:
    """The word each token overlaps most [N]; of equals the first; -1 for tokens that cover no word's character."""
    token, word = np.asarray(offsets, dtype=np.int64), np.asarray(spans, dtype=np.int64)
    start = np.maximum(token[:, :1], word[None, :, 0])
    overlap = np.minimum(token[:, 1:], word[None, :, 1]) - start
    return np.where(overlap.max(axis=1) > 0, overlap.argmax(axis=1), -1)


def first_tokens(word_of: Integers, n_words: int) -> Integers:
    """The first token of each word [W], -1 where a word has none."""
    first = np.full(n_words, -1, dtype=np.int64)
    positions = np.flatnonzero(word_of >= 0)[::-1]
    first[word_of[positions]] = positions
    return first


def align(adapter: ModelAdapter, treebank: Sequence[Sentence]) -> tuple[list[AlignedSentence], Counter[str]]:
    """Tokenize and align a treebank; sentences that are too long or not in their text are left out and counted."""
    if not treebank:
        raise InputError("conf error: heads: the treebank has no sentences; give one with at least one sentence.")
    encodings, offsets = _tokenize(adapter.tokenizer, [sentence[0] for sentence in treebank])
    longest, skipped, aligned = adapter.max_length, Counter[str](), []
    for number, (sentence, encoding, places) in enumerate(zip(treebank, encodings, offsets, strict=True), start=1):
        _check(number, sentence)
        spans = locate_words(sentence[0], sentence[1])
        if len(encoding["input_ids"]) > longest:
            skipped["too long"] += 1
        elif not spans:
            skipped["not aligned"] += 1
        else:
            aligned.append(_aligned(sentence, encoding, words_of_tokens(places, spans)))
    return aligned, skipped


def _aligned(sentence: Sentence, encoding: dict[str, list[int]], word_of: Integers) -> AlignedSentence:
    _, words, governors, relations = sentence
    first = first_tokens(word_of, len(words))
    return AlignedSentence(encoding, word_of, first, np.asarray(governors, dtype=np.int64) - 1, relations)


def _tokenize(tokenizer: Any, texts: list[str]) -> tuple[list[dict[str, list[int]]], list[list[Span]]]:
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            "conf error: heads: aligning a treebank needs a fast tokenizer (character offsets); this model has none."
        )
    batch = tokenizer(texts, return_offsets_mapping=True, verbose=False)
    names = [name for name in _PER_TOKEN if name in batch]
    return [{name: batch[name][row] for name in names} for row in range(len(texts))], batch["offset_mapping"]


def _check(number: int, sentence: Sentence) -> None:
    _, words, governors, relations = sentence
    if not len(words) == len(governors) == len(relations) > 0:
        raise InputError(
            f"conf error: heads: treebank sentence {number} has {len(words)} words, {len(governors)} governors and "
            f"{len(relations)} relations; it needs one of each per word."
        )
    if min(governors) < 0 or max(governors) > len(words):
        raise InputError(
            f"conf error: heads: treebank sentence {number} names governor {max(governors, key=abs)}; "
            f"governors are 1 to {len(words)}, 0 for the root."
        )
