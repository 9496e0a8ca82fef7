"""Which attention heads matter, and what they do."""

from attribution.heads.importance import IMPORTANCES, Importance, head_importance, head_importances
from attribution.heads.positional import positional_heads
from attribution.heads.scores import HeadScores, merge
from attribution.heads.syntactic import syntactic_heads

__all__ = [
    "IMPORTANCES",
    "HeadScores",
    "Importance",
    "head_importance",
    "head_importances",
    "merge",
    "positional_heads",
    "syntactic_heads",
]
