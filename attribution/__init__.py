"""Attribution of a transformer's predictions to tokens, through its attention heads."""

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
