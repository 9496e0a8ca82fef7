"""Attention patterns a person describes: where they hold, which heads have them, and putting them into models."""

from attribution.patterns.predicates import evaluate
from attribution.patterns.schema import Pattern, PatternFile
from attribution.patterns.tokens import Tokens
from attribution.patterns.vocabulary import Vocabulary

__all__ = ["Pattern", "PatternFile", "Tokens", "Vocabulary", "evaluate"]
