"""Which attention heads matter, and what they do."""

from attribution.heads.positional import positional_heads
from attribution.heads.scores import HeadScores, merge
from attribution.heads.syntactic import syntactic_heads

__all__ = ["HeadScores", "merge", "positional_heads", "syntactic_heads"]
