"""Which attention heads matter, and what they do."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from attribution.heads.positional import positional_heads
from attribution.heads.scores import HeadScores, merge
from attribution.heads.shuffled import shuffled_trees
from attribution.heads.syntactic import every_relation, syntactic_heads

if TYPE_CHECKING:
    from attribution.heads.divergence import HeadDistances, head_distances
    from attribution.heads.importance import Importance, head_importance, head_importances
    from attribution.heads.importance_methods import IMPORTANCES
    from attribution.heads.text_roles import attention_roles, count_roles, induction_heads

__all__ = [
    "IMPORTANCES",
    "HeadDistances",
    "HeadScores",
    "Importance",
    "attention_roles",
    "count_roles",
    "every_relation",
    "head_distances",
    "head_importance",
    "head_importances",
    "induction_heads",
    "merge",
    "positional_heads",
    "shuffled_trees",
    "syntactic_heads",
]

# Loaded when asked for: they take transformers, which reading a table of heads does not.
_LATER = {
    **dict.fromkeys(("Importance", "head_importance", "head_importances"), "importance"),
    "IMPORTANCES": "importance_methods",
    **dict.fromkeys(("attention_roles", "count_roles", "induction_heads"), "text_roles"),
    **dict.fromkeys(("HeadDistances", "head_distances"), "divergence"),
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'attribution.heads' has no attribute {name!r}")
    return getattr(import_module(f"attribution.heads.{_LATER[name]}"), name)
