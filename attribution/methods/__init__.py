"""Attribution methods; importing this package fills the registry."""

from attribution.methods import attention, conservative, controls, deep_lift, gradients, lrp
from attribution.methods.registry import METHODS, Method, list_methods

__all__ = [
    "METHODS",
    "Method",
    "attention",
    "conservative",
    "controls",
    "deep_lift",
    "gradients",
    "list_methods",
    "lrp",
]
