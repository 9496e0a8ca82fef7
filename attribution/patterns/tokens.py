"""A batch of tokens as predicates see it: which are real, and which sentence, block or text each belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from attribution.errors import InputError
from attribution.patterns.vocabulary import Vocabulary

SEGMENTS = ("sentence", "block", "text")
ARCS = ("word_ids", "governors", "relations")


@dataclass(frozen=True)
class Arcs:
    """Dependency trees over tokens. `word_ids` [B, N]: -1 for special tokens; `governors` [B, N]: the word that governs
    the token's word, -1 for none; `relations` [B, N]: its relation as an index into `names`.
    """

    word_ids: Tensor
    governors: Tensor
    relations: Tensor
    names: Sequence[str]


@dataclass(frozen=True)
class Tokens:
    """Token ids [B, N]; `real` [B, N] is False at padding, on either side. `causal`: no token sees a later one."""

    ids: Tensor
    real: Tensor
    vocabulary: Vocabulary | None = None
    causal: bool = False
    arcs: Arcs | None = None

    @classmethod
    def of(
        cls, batch: Mapping[str, Tensor], vocabulary: Vocabulary | None = None, *, causal: bool = False,
        relations: Sequence[str] = (),
    ) -> Tokens:  # fmt: skip
        """Of a batch as a tokenizer returns it, with the tensors of `Arcs` where predicates ask for them."""
        ids, mask = batch["input_ids"], batch.get("attention_mask")
        real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
        arcs = (
            Arcs(batch["word_ids"], batch["governors"], batch["relations"], relations)
            if all(name in batch for name in ARCS)
            else None
        )
        return cls(ids, real, vocabulary, causal, arcs)

    @cached_property
    def visible(self) -> Tensor:
        """Bool [B, N, N]: real keys that a real query may attend to in any model of this kind."""
        pairs = self.real[:, :, None] & self.real[:, None, :]
        return pairs.tril() if self.causal else pairs

    @cached_property
    def places(self) -> Tensor:
        """[N, N] key - query."""
        place = torch.arange(self.ids.shape[1], device=self.ids.device)
        return place[None, :] - place[:, None]

    def known(self, what: str) -> Vocabulary:
        """The vocabulary; InputError where there is none."""
        if self.vocabulary is None:
            raise InputError(f"patterns: {what} needs the spellings of tokens; give the model its tokenizer.")
        return self.vocabulary

    def has(self, token_class: str) -> Tensor:
        """Bool [B, N]: tokens of a class."""
        return self.known(token_class).has(self.ids, token_class)

    def segments(self, kind: str) -> Tensor:
        """[B, N] the number of each token's segment, -1 for tokens outside of any."""
        found = {"sentence": self._sentences, "block": self._blocks, "text": self._texts}[kind]()
        return found.masked_fill(~self.real, -1)

    def _sentences(self) -> Tensor:
        """Runs of words up to a token of `.`, `!`, `?` or an ellipsis and the quotes and brackets that close it.

        Told from the tokens alone, so that a model finds the same sentences that were measured; a full stop between
        two numbers ends none, abbreviations are not known. Special tokens are in no sentence.
        """
        special, digit = self.has("special"), self.has("number")
        inside = torch.zeros_like(digit)
        inside[:, 1:-1] = digit[:, :-2] & digit[:, 2:]
        tail = _tails(self.has("sentence_end") & ~inside, self.has("closer"))
        start = special.clone()
        start[:, 1:] |= special[:, :-1] | (tail[:, :-1] & ~tail[:, 1:])
        return start.long().cumsum(1).masked_fill(special, -1)

    def _blocks(self) -> Tensor:
        """Blocks from a token that starts a text ([CLS]) to the first separator behind it, both included."""
        first, separator = self.has("first") & self.real, self.has("separator") & self.real
        number = first.long().cumsum(1)
        ends = separator.long().cumsum(1)
        closed = (ends - separator.long()) - _at_last(first, ends - separator.long())
        return number.masked_fill((number == 0) | (closed > 0), -1)

    def _texts(self) -> Tensor:
        """0 before the first separator of a row, 1 from there on."""
        return ((self.has("separator") & self.real).long().cumsum(1) > 0).long()


def _tails(ends: Tensor, closers: Tensor) -> Tensor:
    """Bool [B, N]: tokens that end a sentence, and closing quotes and brackets right behind them."""
    place = torch.arange(ends.shape[1], device=ends.device).expand_as(ends)
    last_end = torch.where(ends, place, -1).cummax(1).values
    last_other = torch.where(ends | closers, -1, place).cummax(1).values
    return (ends | closers) & (last_end > last_other)


def _at_last(marks: Tensor, values: Tensor) -> Tensor:
    """[B, N] what `values` (which never fall along a row) were at the last mark, 0 before the first."""
    return torch.where(marks, values, 0).cummax(1).values
