"""A seeded grammar of short reviews: labelled sentences, the words that carry the label, and exact UD v2 trees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random

from pipeline.data.grammar.lexicon import BAD, GOOD
from pipeline.data.grammar.scene import Scene
from pipeline.data.grammar.sentences import sentence
from pipeline.data.grammar.tree import Parse, parse
from pipeline.data.treebanks import Sentence

LABELS = {GOOD: "positive", BAD: "negative"}


@dataclass(frozen=True)
class GeneratedSentence:
    """A review sentence with its tree: `heads` are 1-based, 0 marks the root; `rationale` are 0-based word indexes."""

    text: str
    words: list[str]
    upos: list[str]
    heads: list[int]
    deprels: list[str]
    label: str
    rationale: list[int]


def _stream(seed: int) -> Iterator[GeneratedSentence]:
    rng = Random(seed)
    seen: set[str] = set()
    while True:
        polarity = rng.choice((GOOD, BAD))
        result: Parse = parse(sentence(Scene(rng), polarity))
        if result.text not in seen:
            seen.add(result.text)
            yield GeneratedSentence(*result[:5], LABELS[polarity], result.rationale)


def generate(n: int, seed: int) -> list[GeneratedSentence]:
    """`n` different sentences; those of a smaller `n` are the first of a larger one."""
    return list(islice(_stream(seed), n))


def grammar_treebank(n: int, seed: int) -> list[Sentence]:
    """The sentences of `generate` as a treebank."""
    return [Sentence(one.text, one.words, one.heads, one.deprels) for one in generate(n, seed)]
