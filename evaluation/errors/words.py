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

SHUFFLES = 200  # of the scores, for what chance alone would make of the strongest word
LEAST = 1.0  # strength of a word that is named at all
RECURRING = 3  # errors that a word has to be in, where there are enough for a pattern at all


class WordCause(NamedTuple):
    """What a word did in some errors, in shares of the attribution of a text (sum of absolute scores: 1).

    value: mean over all these errors, of texts without the word 0; low, high: its interval. shuffled: the mean that
    scores dealt out at random among a text's words would give it. strength: by how many standard deviations, of such
    deals, it is above that. n: errors that have the word.
    """

    word: str
    value: float
    low: float
    high: float
    shuffled: float
    strength: float
    n: int
    above_chance: bool  # whether it is stronger than chance makes any word, and its interval above `shuffled`


class WordCauses(NamedTuple):
    """Words that speak for the wrong class, strongest first.

    chance: the strength that the strongest word has in 95 of 100 shuffles at most. n: errors counted; n_undefined: left
    out, for want of a score or with scores that are not finite.
    """

    causes: list[WordCause]
    chance: float
    n: int
    n_undefined: int


def word_causes(
    words: Sequence[Sequence[str]],
    scores: Sequence[ArrayLike],
    *,
    number: int = 10,
    samples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> WordCauses:
    """The `number` strongest words of these errors, none below LEAST; of FEWEST errors, those in RECURRING of them.

    words: of each error, in the order of its text; upper and lower case are one. scores: one for each word, of the
    predicted class against the gold one. A text counts as much as any other: its scores are divided by the sum of their
    absolute values.
    """
    shares = [score_shares(own, len(text)) for own, text in zip(scores, words, strict=True)]
    kept = [row for row, own in enumerate(shares) if own is not None]
    flat = _Flat.of([words[row] for row in kept], [own for own in shares if own is not None])
    if not kept or not flat.names:
        return WordCauses([], math.nan, 0, len(words))
    counts = flat.counts()
    among = counts >= (RECURRING if len(kept) >= FEWEST else 1)
    means, dealt = flat.means(flat.shares), flat.dealt()
    shuffled, strength = dealt[0], flat.strengths(flat.shares, dealt)
    chance = flat.chance(among, dealt, seed, confidence)
    named = among & (means > 0) & (strength >= LEAST)
    first = np.argsort(np.where(named, -strength, np.inf), kind="stable")[: min(number, named.sum())]

    def cause(place: int) -> WordCause:
        value, low, high, *_ = mean_of_errors(flat.column(place), samples=samples, confidence=confidence, seed=seed)
        told = low > shuffled[place] and strength[place] > chance
        about = (shuffled[place].item(), strength[place].item(), counts[place].item(), bool(told))
        return WordCause(flat.names[place], value, low, high, *about)

    return WordCauses([cause(place) for place in first.tolist()], chance, len(kept), len(words) - len(kept))


def score_shares(scores: ArrayLike, n: int) -> Floats | None:
    """Scores [n] of a text's words over the sum of their absolute values; None where that is 0 or not finite."""
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

    def counts(self) -> Ints:
        """[W] how many errors have each word."""
        pairs = np.unique(np.stack((self.word, self.error)), axis=1)
        return np.bincount(pairs[0], minlength=len(self.names)).astype(np.int64)

    def dealt(self) -> tuple[Floats, Floats]:
        """[W] mean and standard deviation of what each word has where the scores of every text are shuffled.

        k of m scores are drawn without replacement: k times their mean, and k (m - k) / (m - 1) times their variance.
        """
        sizes = np.bincount(self.error, minlength=self.n)
        mean = np.bincount(self.error, self.shares, minlength=self.n) / np.maximum(sizes, 1)
        spread = np.bincount(self.error, self.shares**2, minlength=self.n) / np.maximum(sizes, 1) - mean**2
        (word, error), times = np.unique(np.stack((self.word, self.error)), axis=1, return_counts=True)
        expected = np.bincount(word, times * mean[error], minlength=len(self.names))
        drawn = times * (sizes[error] - times) / np.maximum(sizes[error] - 1, 1)
        variance = np.bincount(word, drawn * np.maximum(spread[error], 0), minlength=len(self.names))
        return expected / self.n, np.sqrt(variance) / self.n

    def strengths(self, shares: Floats, dealt: tuple[Floats, Floats]) -> Floats:
        """[W] by how many deviations each word has more of `shares` than if these were dealt; 0 where deals agree."""
        more = self.means(shares) - dealt[0]
        found: Floats = np.divide(more, dealt[1], out=np.zeros_like(more), where=dealt[1] > 0)
        return found

    def chance(self, among: NDArray[np.bool_], dealt: tuple[Floats, Floats], seed: int, confidence: float) -> float:
        """The strength of the strongest of some words where scores are shuffled, at that quantile of the shuffles."""
        if not among.any():
            return math.nan
        generator, largest = np.random.default_rng(seed), []
        for _ in range(SHUFFLES):
            order = np.lexsort((generator.random(len(self.error)), self.error))
            largest.append(self.strengths(self.shares[order], dealt)[among].max())
        return float(np.quantile(largest, confidence))
