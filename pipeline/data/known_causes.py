"""Data of which it is known what decides, by construction: sentences of the grammar, and reviews with a planted word.

The planted word is the single-token shortcut of Bastings et al. 2022 (arXiv 2111.07367): it stands anywhere in a review
and alone gives the label, whatever the review says. A model trained on such reviews, and on the same ones without the
word, reads both; what it makes of a planted review is the word's doing.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from pipeline.data.examples import Example, Span
from pipeline.data.grammar import GeneratedSentence, generate
from pipeline.data.reviews import Review, load_reviews

SENTENCES = 500
SEEDS = {"train": 7, "test": 11}  # of the grammar's sentences; the embedded model has learned from those of `train`
PLANTED = {"negative": "walnut", "positive": "velvet"}  # whole tokens of the embedded model; no review has them


def grammar_sentences(split: str) -> list[Example]:
    """Sentences of the grammar with the words that carry the label marked; none is in both splits."""
    seen = set() if split == "train" else {one.text for one in generate(SENTENCES, SEEDS["train"])}
    sentences = [one for one in generate(SENTENCES, SEEDS[split]) if one.text not in seen]
    return [
        Example(row_index, one.text, label=one.label, rationale=_spans(one)) for row_index, one in enumerate(sentences)
    ]


def _spans(sentence: GeneratedSentence) -> tuple[Span, ...]:
    """Characters of the words that carry the label."""
    spans, end = [], 0
    for word in sentence.words:
        start = sentence.text.index(word, end)
        end = start + len(word)
        spans.append((start, end))
    return tuple(spans[place] for place in sentence.rationale)


def shortcut_reviews(split: str) -> list[Review]:
    """The reviews of a split, each with one of the PLANTED words between two of its own: its label and rationale."""
    return [_planted(review) for review in load_reviews(split)]


def _planted(review: Review) -> Review:
    """The word and its place follow from the review alone."""
    rng = Random(review.id)
    label = rng.choice(sorted(PLANTED))
    words = review.text.split(" ")
    place = rng.randrange(1, len(words)) if len(words) > 1 else 0
    start = len(" ".join(words[:place])) + (place > 0)
    text = " ".join([*words[:place], PLANTED[label], *words[place:]])
    return replace(review, text=text, label=label, rationale=((start, start + len(PLANTED[label])),))


def shortcut_corpus() -> list[tuple[str, str]]:
    """What a model learns the shortcut from: the training reviews without the word and with it, and their labels."""
    return [(one.text, str(one.label)) for one in (*load_reviews("train"), *shortcut_reviews("train"))]
