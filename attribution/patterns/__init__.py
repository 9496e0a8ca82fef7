"""Attention patterns a person describes: where they hold, which heads have them, and putting them into models."""

from attribution.patterns.injection import trees
from attribution.patterns.models import inject, pattern_heads
from attribution.patterns.predicates import evaluate
from attribution.patterns.relevance import PatternRelevance, pattern_relevance
from attribution.patterns.schema import Pattern, PatternFile
from attribution.patterns.tokens import Arcs, Tokens
from attribution.patterns.vocabulary import Vocabulary

__all__ = [
    "Arcs", "Pattern", "PatternFile", "PatternRelevance", "Tokens", "Vocabulary", "evaluate", "inject",
    "pattern_heads", "pattern_relevance", "trees",
]  # fmt: skip
