"""Which tokens of a vocabulary are of a kind that heads look at: opening, separating, punctuation, no words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

MARKERS = "ĠĊ▁"  # of byte-level and SentencePiece tokenizers, at the start of a word
PUNCTUATION = (".", ",")  # what Clark et al. 2019 call punctuation


@dataclass(frozen=True)
class TokenKinds:
    """Ids of each kind [K]; none where the tokenizer has no such token, or there is no tokenizer."""

    opening: Tensor
    separators: Tensor
    punctuation: Tensor
    without_letters: Tensor

    @classmethod
    def of(cls, tokenizer: Any | None) -> TokenKinds:
        """The kinds of a tokenizer's tokens."""
        vocabulary = {} if tokenizer is None else tokenizer.get_vocab()
        pieces = [(text.lstrip(MARKERS).removeprefix("##"), number) for text, number in vocabulary.items()]
        return cls(
            _ids([getattr(tokenizer, "cls_token_id", None)]),
            _ids([getattr(tokenizer, "sep_token_id", None)]),
            _ids(number for text, number in pieces if text in PUNCTUATION),
            _ids(number for text, number in pieces if not any(map(str.isalpha, text))),
        )

    def among(self, ids: Tensor, kind: str) -> Tensor:
        """Bool, of the shape of `ids`: whether each is of the kind."""
        known: Tensor = getattr(self, kind)
        return torch.isin(ids, known.to(ids.device))


def _ids(numbers: Iterable[int | None]) -> Tensor:
    return torch.tensor([number for number in numbers if number is not None], dtype=torch.long)
