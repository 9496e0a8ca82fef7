"""Attribution of a transformer's predictions to tokens, through its attention heads."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attribution.errors import HeadlightError, InputError, UnruledOperation
    from attribution.explainer import Explainer
    from attribution.explanation import Explanation
    from attribution.methods import METHODS, Method, list_methods
    from attribution.methods.rollout import rollout
    from attribution.model.inputs import Inputs
    from attribution.targets import Target

__all__ = [
    "METHODS",
    "Explainer",
    "Explanation",
    "HeadlightError",
    "InputError",
    "Inputs",
    "Method",
    "Target",
    "UnruledOperation",
    "list_methods",
    "rollout",
]

# Loaded when asked for: torch and transformers take seconds, and an error class needs neither.
_HOMES = {
    "METHODS": "methods",
    "Explainer": "explainer",
    "Explanation": "explanation",
    "HeadlightError": "errors",
    "InputError": "errors",
    "Inputs": "model.inputs",
    "Method": "methods",
    "Target": "targets",
    "UnruledOperation": "errors",
    "list_methods": "methods",
    "rollout": "methods.rollout",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'attribution' has no attribute {name!r}")
    return getattr(import_module(f"attribution.{_HOMES[name]}"), name)
