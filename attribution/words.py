"""From tokens to words and sentences: which tokens make one, and one score for each."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from attribution.errors import InputError

_REDUCTIONS = {"sum": "sum", "mean": "mean", "max": "amax"}
AGGREGATIONS = (*_REDUCTIONS, "signed_max")

_SENTENCE_END = re.compile(r"[.!?\u2026]+[\"'\u201d\u2019)\]]*(?=\s)|\n")

Span = tuple[int, int]


class Word(NamedTuple):
    """A word of a text: its characters `text[start:end]` and the positions of its tokens."""

    text: str
    start: int
    end: int
    tokens: tuple[int, ...]


def token_word_ids(word_ids: Sequence[int | None], offsets: Sequence[Span], text: str) -> list[int]:
    """Word of each token [N], -1 for special tokens: the tokenizer's own words wherever it splits at spaces.

    SentencePiece tokenizers without a pre-tokenizer call the whole text one word, others two words with a line break
    between them; there, words are the runs of non-space characters a token begins in. `offsets` are characters in
    `text`, leading spaces included or not.
    """
    ids = [-1 if word is None else int(word) for word in word_ids]
    if any(re.search(r"\S\s+\S", text[slice(*span)]) for span in _word_spans(ids, offsets)):
        ends = [run.end() for run in re.finditer(r"\S+", text)]
        starts = [_without_spaces(offset, text)[0] for offset in offsets]
        ids = [-1 if word < 0 else bisect_right(ends, start) for word, start in zip(ids, starts, strict=True)]
    return _with_spaces_joined(ids, offsets, text)


def _word_spans(ids: Sequence[int], offsets: Sequence[Span]) -> list[Span]:
    """From the first to the last character of each word."""
    spans: dict[int, Span] = {}
    for word, (start, end) in zip(ids, offsets, strict=True):
        before = spans.get(word, (start, end))
        spans[word] = min(start, before[0]), max(end, before[1])
    return [span for word, span in spans.items() if word >= 0]


def _with_spaces_joined(ids: list[int], offsets: Sequence[Span], text: str) -> list[int]:
    """Tokens of nothing but spaces (byte-level tokenizers make them) join the word that follows, or the last one."""
    blank = [
        i for i, (word, (a, b)) in enumerate(zip(ids, offsets, strict=True)) if word >= 0 and not text[a:b].strip()
    ]
    spaces = set(blank)
    solid = [i for i, word in enumerate(ids) if word >= 0 and i not in spaces]
    if not blank or not solid:
        return ids
    joined = list(ids)
    for i in blank:
        joined[i] = ids[solid[min(bisect_right(solid, i), len(solid) - 1)]]
    rank = {word: number for number, word in enumerate(sorted({word for word in joined if word >= 0}))}
    return [rank.get(word, -1) for word in joined]


def is_punctuation(text: str) -> bool:
    """Whether there is nothing but punctuation and symbols in it, spaces aside."""
    bare = text.strip()
    return bool(bare) and all(unicodedata.category(character)[0] in "PS" for character in bare)


def words_of(word_ids: Sequence[int], offsets: Sequence[Span], text: str) -> list[Word]:
    """The words of one text in the order of their ids; tokens with id -1 belong to none."""
    members: dict[int, list[int]] = {}
    for position, word in enumerate(word_ids):
        if word >= 0:
            members.setdefault(int(word), []).append(position)
    return [_word(positions, offsets, text) for _, positions in sorted(members.items())]


def _word(positions: Sequence[int], offsets: Sequence[Span], text: str) -> Word:
    span = min(offsets[p][0] for p in positions), max(offsets[p][1] for p in positions)
    start, end = _without_spaces(span, text)
    return Word(text[start:end], start, end, tuple(positions))


def _without_spaces(span: Span, text: str) -> Span:
    """The span without the spaces that byte-level and SentencePiece tokens carry; empty spans stay where they are."""
    piece = text[span[0] : span[1]]
    start = span[0] + len(piece) - len(piece.lstrip())
    return start, start + len(piece.strip())


def sentence_ids(fields: Sequence[int], offsets: Sequence[Span], texts: Sequence[str | None]) -> list[int]:
    """Sentence of each token [N] over the whole input, -1 for special tokens (field -1).

    A sentence ends after `.`, `!`, `?` or an ellipsis, closing quotes and brackets included, before a space, and at the
    end of a line or of a text; abbreviations are not known.
    """
    ends = [[match.end() for match in _SENTENCE_END.finditer(text or "")] for text in texts]
    starts = [sum(len(known) + 1 for known in ends[:field]) for field in range(len(texts))]
    found = []
    for field, offset in zip(fields, offsets, strict=True):
        begin = _without_spaces(offset, texts[field] or "")[0] if field >= 0 else 0
        found.append(-1 if field < 0 else starts[field] + bisect_right(ends[field], begin))
    return found


def sentences_of(text: str) -> list[str]:
    """The sentences of a text, as `sentence_ids` tells them, without the spaces around them."""
    ends = [0, *(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]
    parts = (text[start:stop].strip() for start, stop in pairwise(ends))
    return [part for part in parts if part]


def join_fields(word_ids: Tensor, field_ids: Tensor) -> Tensor:
    """Word ids [B, N] that continue over the second text of a pair, where tokenizers begin again at 0."""
    first = torch.where(field_ids == 0, word_ids, -1).amax(dim=1, keepdim=True) + 1
    return torch.where((field_ids == 1) & (word_ids >= 0), word_ids + first, word_ids)


def aggregate(scores: Tensor, word_ids: Tensor, how: str = "sum") -> Tensor:
    """One score per word: [..., N] -> [..., W], W the largest id plus one.

    `word_ids` are broadcast to `scores`; tokens with id -1 are dropped, a word without tokens scores 0.
    `signed_max` takes the score of largest magnitude with its sign.
    """
    if how not in AGGREGATIONS:
        raise InputError(f"conf error: aggregation={how} is not known. Choose one of: {', '.join(AGGREGATIONS)}.")
    if how == "signed_max":
        high, low = aggregate(scores, word_ids, "max"), -aggregate(-scores, word_ids, "max")
        return torch.where(high >= -low, high, low)
    count = max(int(word_ids.max()) + 1, 0)
    index = torch.where(word_ids < 0, count, word_ids).expand_as(scores)
    empty = scores.new_zeros(*scores.shape[:-1], count + 1)
    return empty.scatter_reduce(-1, index, scores, _REDUCTIONS[how], include_self=False)[..., :count]
