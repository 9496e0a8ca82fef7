"""Which attention heads matter, and what they do."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from attribution.heads.positional import positional_heads
from attribution.heads.scores import HeadScores, merge
from attribution.heads.syntactic import syntactic_heads

if TYPE_CHECKING:
    from attribution.heads.importance import IMPORTANCES, Importance, head_importance, head_importances

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

# Loaded when asked for: it takes transformers, which reading a table of heads does not.
_OF_IMPORTANCE = ("IMPORTANCES", "Importance", "head_importance", "head_importances")


def __getattr__(name: str) -> Any:
    if name not in _OF_IMPORTANCE:
        raise AttributeError(f"module 'attribution.heads' has no attribute {name!r}")
    return getattr(import_module("attribution.heads.importance"), name)
