"""Attribution methods; importing this package fills the registry."""

from attribution.methods import attention, controls, gradients, lrp, paths, perturbation
from attribution.methods.registry import METHODS, Method, list_methods

__all__ = ["METHODS", "Method", "attention", "controls", "gradients", "list_methods", "lrp", "paths", "perturbation"]
