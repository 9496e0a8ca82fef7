"""Extractive summaries: which sentences to take, and what the summary is worth by ROUGE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from attribution.errors import InputError

KINDS = ("rouge1", "rouge2", "rougeLsum")


def rouge(summary: str, references: Sequence[str]) -> dict[str, float]:
    """F1 of unigrams, bigrams and the longest common subsequence (sentences by lines), of words without endings.

    Of several references the best, for each kind by itself. Source: Lin 2004, by the package rouge-score.
    """
    if not references:
        raise InputError("summaries: ROUGE needs at least one reference.")
    scores = _scorer().score_multi(list(references), summary)
    return {kind: float(scores[kind].fmeasure) for kind in KINDS}


@cache
def _scorer() -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise InputError(
            "summaries: ROUGE needs the package rouge-score: pip install 'headlight-xai[summaries]'."
        ) from None
    return RougeScorer(list(KINDS), use_stemmer=True)


def oracle_sentences(sentences: Sequence[str], references: Sequence[str], most: int = 3) -> list[int]:
    """Numbers of at most `most` sentences, taken one by one while the sum of ROUGE-1 and ROUGE-2 rises.

    Source: Nallapati et al. 2017, as BERTSum uses it. In the order of the document.
    """
    taken: list[int] = []
    best = 0.0
    while len(taken) < most:
        rest = [number for number in range(len(sentences)) if number not in taken]
        gains = [(_gain([*taken, number], sentences, references), -number) for number in rest]
        if not gains or max(gains)[0] <= best:
            break
        best, number = max(gains)
        taken.append(-number)
    return sorted(taken)


def _gain(numbers: Sequence[int], sentences: Sequence[str], references: Sequence[str]) -> float:
    scores = rouge("\n".join(sentences[number] for number in sorted(numbers)), references)
    return scores["rouge1"] + scores["rouge2"]


def best_sentences(
    scores: Sequence[float], sentences: Sequence[str], count: int = 1, *, block_trigrams: bool = False
) -> list[int]:
    """Numbers of the sentences with the highest scores, the best first; of equals the earlier.

    block_trigrams: leave out a sentence that shares three words in a row with one taken before (Paulus et al. 2018).
    Sentences without a score come last: they were cut off.
    """
    ranked = sorted(range(len(scores)), key=lambda number: (-scores[number], number))
    taken: list[int] = []
    seen: set[tuple[str, ...]] = set()
    for number in [*ranked, *range(len(scores), len(sentences))]:
        trigrams = _trigrams(sentences[number])
        if len(taken) < count and not (block_trigrams and seen & trigrams):
            taken.append(number)
            seen |= trigrams
    return taken


def _trigrams(sentence: str) -> set[tuple[str, ...]]:
    words = sentence.casefold().split()
    return {tuple(words[at : at + 3]) for at in range(len(words) - 2)}


@dataclass(frozen=True)
class SummaryScores:
    """Of one document: ROUGE of the summary; whether its first sentence is of the oracle, and 1 / the oracle's rank."""

    rouge: Mapping[str, float]
    hit: float
    reciprocal_rank: float


def score_summary(
    scores: Sequence[float],
    sentences: Sequence[str],
    references: Sequence[str],
    oracle: Sequence[int],
    *,
    count: int = 1,
    block_trigrams: bool = False,
) -> SummaryScores:
    """What the `count` best sentences are worth against references, and the ranking against the oracle's sentences."""
    if not oracle:
        raise InputError("summaries: a ranking is judged by the oracle's sentences; this document has none.")
    taken = best_sentences(scores, sentences, count, block_trigrams=block_trigrams)
    ranked = best_sentences(scores, sentences, len(sentences))
    rank = 1 + min(ranked.index(number) for number in oracle)
    summary = "\n".join(sentences[number] for number in sorted(taken))
    return SummaryScores(rouge(summary, references), float(ranked[0] in oracle), 1 / rank)
