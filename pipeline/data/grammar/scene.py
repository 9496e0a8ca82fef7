"""What one sentence is drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple, TypeVar

from pipeline.data.grammar.lexicon import ADJECTIVES, BAD, DOMAINS, GOOD, Domain

Choice = TypeVar("Choice")
Attitudes = Mapping[tuple[int, str], str]


class Attitude(NamedTuple):
    """A polar word; where `negated`, it says the opposite of what is meant."""

    word: str
    strength: str  # mild, strong
    negated: bool


@dataclass
class Scene:
    """A domain, a tense, and a memory that keeps a word from being used twice in one sentence."""

    rng: Random
    domain: Domain = field(init=False)
    tense: str = field(init=False)
    used: set[str] = field(default_factory=set)
    affirmative: bool = False  # nothing is negated from here on

    def __post_init__(self) -> None:
        self.domain = self.rng.choice(DOMAINS)
        self.tense = "past" if self.chance(0.65) else "present"

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.rng.random() < probability

    def negates(self, probability: float) -> bool:
        """True with this probability, unless the scene is affirmative."""
        return not self.affirmative and self.chance(probability)

    def pick(self, words: str) -> str:
        """One of the words, and none that the sentence already has where that can be avoided."""
        choices = words.split()
        word = self.rng.choice([choice for choice in choices if choice not in self.used] or choices)
        self.used.add(word)
        return word

    def weighted(self, choices: Sequence[tuple[float, Choice]]) -> Choice:
        """One of the choices by its weight."""
        return self.rng.choices([choice for _, choice in choices], [weight for weight, _ in choices])[0]

    def attitude(self, table: Attitudes, polarity: int, *, negatable: float = 0.3) -> Attitude:
        """A word of this polarity, or with probability `negatable` a mild one of the opposite, to be negated."""
        negated = self.negates(negatable)
        strength = "mild" if negated or self.chance(0.5) else "strong"
        return Attitude(self.pick(table[-polarity if negated else polarity, strength]), strength, negated)

    def adjectives(self) -> Attitudes:
        """Adjectives of the things and parts of the domain."""
        own = {GOOD: self.domain.good, BAD: self.domain.bad}
        mild = {(polarity, "mild"): f"{ADJECTIVES[polarity, 'mild']} {words}" for polarity, words in own.items()}
        return {**ADJECTIVES, **mild}
