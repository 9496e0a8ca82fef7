"""Methods of other packages: whatever registers itself when an entry point of `headlight.methods` is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint

from attribution.methods.registry import METHODS
from attribution.plugins import load_group

GROUP = "headlight.methods"
ORIGINS: dict[str, str] = {}  # id of a method -> distribution and version it came with


def load_plugins(points: Iterable[EntryPoint] | None = None) -> None:
    """Load every entry point of the group, see `attribution.plugins`."""
    load_group(GROUP, "method", METHODS, ORIGINS, points)
