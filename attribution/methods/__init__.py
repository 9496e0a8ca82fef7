"""Attribution methods; importing this package fills the registry."""

from attribution.capture import Capture, Need
from attribution.methods import (
    attention,
    conservative,
    controls,
    deep_lift,
    gradients,
    layers,
    lrp,
    mixing,
    paths,
    perturbation,
)
from attribution.methods.plugins import load_plugins
from attribution.methods.registry import METHODS, Method, list_methods, register

load_plugins()

__all__ = [
    "METHODS",
    "Capture",
    "Method",
    "Need",
    "attention",
    "conservative",
    "controls",
    "deep_lift",
    "gradients",
    "layers",
    "list_methods",
    "lrp",
    "mixing",
    "paths",
    "perturbation",
    "register",
]
