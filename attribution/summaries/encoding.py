"""Documents as token ids: each sentence between a first token of its own and a separator, segments in turn.

Source: Liu & Lapata 2019, section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from attribution.errors import InputError


@dataclass(frozen=True)
class SentenceBatch:
    """Documents [B, N], padded on the right, of at most S sentences.

    `starts` [B, S]: where the first token of each sentence is, 0 for none; `given` bool [B, S]: whether there is one.
    A sentence that begins behind the longest input is not.
    """

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor
    starts: Tensor
    given: Tensor

    def to(self, device: torch.device | str) -> SentenceBatch:
        """The same on another device."""
        return replace(self, **{name: value.to(device) for name, value in vars(self).items()})


def encode(
    tokenizer: PreTrainedTokenizerBase, documents: Sequence[Sequence[str]], max_length: int = 512
) -> SentenceBatch:
    """Documents, given as sentences. What goes beyond `max_length` tokens is cut off, but for the last separator."""
    if not documents or not all(documents):
        raise InputError("summaries: every document needs at least one sentence.")
    first, last = _marks(tokenizer)
    rows = [_pieces(tokenizer, sentences, first, last) for sentences in documents]
    ids = [_cut([token for piece in row for token in piece], last, max_length) for row in rows]
    types = [[at % 2 for at, piece in enumerate(row) for _ in piece][:max_length] for row in rows]
    starts = [[at for at in _starts(row) if at < max_length - 1] for row in rows]
    return SentenceBatch(
        _padded(ids, tokenizer.pad_token_id or 0),
        _padded([[1] * len(row) for row in ids]),
        _padded(types),
        _padded(starts),
        _padded([[1] * len(row) for row in starts]).bool(),
    )


def _marks(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """The token that starts a text, and that which ends one."""
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    if first is None or last is None:
        raise InputError(
            "summaries: sentences are scored at their first tokens; this tokenizer has no [CLS] and [SEP]."
        )
    return first, last


def _pieces(tokenizer: PreTrainedTokenizerBase, sentences: Sequence[str], first: int, last: int) -> list[list[int]]:
    words = tokenizer(list(sentences), add_special_tokens=False, verbose=False)["input_ids"]
    return [[first, *ids, last] for ids in words]


def _starts(pieces: Sequence[Sequence[int]]) -> list[int]:
    return [0, *accumulate(len(piece) for piece in pieces)][:-1]


def _cut(ids: list[int], last: int, max_length: int) -> list[int]:
    return ids if len(ids) <= max_length else [*ids[: max_length - 1], last]


def _padded(rows: Sequence[Sequence[int]], fill: int = 0) -> Tensor:
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=fill)
