"""The words that caused errors: what explanations of single errors say, put together by word."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attribution.errors import InputError
from evaluation.errors.few import FEWEST, mean_of_errors

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SHUFFLES = 200  # of the scores, for what chance alone would make of the largest word


class WordCause(NamedTuple):
    """What a word did in some errors, in shares of the attribution of a text (sum of absolute scores: 1).

    value: mean over all these errors, of texts without the word 0; low, high: its interval. shuffled: the mean that
    scores dealt out at random among a text's words would give it. n: errors that have the word.
    """

    word: str
    value: float
    low: float
    high: float
    shuffled: float
    n: int
    above_chance: bool  # whether it is above the largest of all words under shuffled scores, and its interval above 0


class WordCauses(NamedTuple):
    """Words that speak for the wrong class, largest first.

    chance: what the largest of all words reaches in 95 of 100 shuffles at most. n: errors counted; n_undefined: left
    out, for want of a score or with scores that are not finite.
    """

    causes: list[WordCause]
    chance: float
    n: int
    n_undefined: int

    @property
    def enough(self) -> bool:
        """Whether there are enough errors for intervals."""
        return self.n >= FEWEST


def word_causes(
    words: Sequence[Sequence[str]],
    scores: Sequence[ArrayLike],
    *,
    number: int = 10,
    samples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> WordCauses:
    """The `number` words that count for most in the errors whose words these are.

    words: of each error, in the order of its text; upper and lower case are one. scores: one for each word, of the
    predicted class against the gold one. A text counts as much as any other: its scores are divided by the sum of their
    absolute values.
    """
    shares = [_shares(own, len(text)) for own, text in zip(scores, words, strict=True)]
    kept = [row for row, own in enumerate(shares) if own is not None]
    flat = _Flat.of([words[row] for row in kept], [own for own in shares if own is not None])
    if not kept or not flat.names:
        return WordCauses([], math.nan, 0, len(words))
    means = flat.means(flat.shares)
    top = [place for place in np.argsort(-means, kind="stable")[:number].tolist() if means[place] > 0]
    chance, shuffled = flat.chance(seed, confidence), flat.means(flat.evenly())
    options = {"samples": samples, "confidence": confidence, "seed": seed}
    causes = []
    for place in top:
        column = flat.column(place)
        found = mean_of_errors(column, **options)  # type: ignore[arg-type]
        told = bool(found.low > 0 and found.value > chance)
        ends = (found.value, found.low, found.high)
        causes.append(WordCause(flat.names[place], *ends, shuffled[place].item(), flat.count(place), told))
    return WordCauses(causes, chance, len(kept), len(words) - len(kept))


def _shares(scores: ArrayLike, n: int) -> Floats | None:
    """None where there is nothing to share."""
    own = np.asarray(scores, dtype=np.float64)
    if own.shape != (n,):
        raise InputError(f"scores: one for each of {n} words is needed, not {list(own.shape)}")
    total = np.abs(own).sum()
    return own / total if n and np.isfinite(total) and total > 0 else None


class _Flat(NamedTuple):
    """The words of all errors one after the other: which word [T], of which error [T], and its share [T]."""

    names: list[str]
    word: Ints
    error: Ints
    shares: Floats
    n: int

    @classmethod
    def of(cls, words: Sequence[Sequence[str]], shares: Sequence[Floats]) -> _Flat:
        places: dict[str, int] = {}
        word = [places.setdefault(each.casefold(), len(places)) for text in words for each in text]
        error = np.repeat(np.arange(len(words)), [len(text) for text in words])
        joined = np.concatenate(shares) if shares else np.zeros(0)
        return cls(list(places), np.array(word, dtype=np.int64), error, joined, len(words))

    def means(self, shares: Floats) -> Floats:
        """[W] of each word, over all errors."""
        return np.bincount(self.word, shares, minlength=len(self.names)).astype(np.float64) / self.n

    def column(self, place: int) -> Floats:
        """[n] what one word has in each error."""
        own = self.word == place
        return np.bincount(self.error[own], self.shares[own], minlength=self.n).astype(np.float64)

    def count(self, place: int) -> int:
        """How many errors have the word."""
        return len(np.unique(self.error[self.word == place]))

    def evenly(self) -> Floats:
        """[T] the expectation of shuffled scores: each word has the mean of its text."""
        sizes = np.bincount(self.error, minlength=self.n)
        means: Floats = (np.bincount(self.error, self.shares, minlength=self.n) / np.maximum(sizes, 1))[self.error]
        return means

    def chance(self, seed: int, confidence: float) -> float:
        """The largest mean of any word where the scores of each text are shuffled, at that quantile of the shuffles."""
        generator = np.random.default_rng(seed)
        largest = []
        for _ in range(SHUFFLES):
            order = np.lexsort((generator.random(len(self.error)), self.error))
            largest.append(self.means(self.shares[order]).max())
        return float(np.quantile(largest, confidence))
