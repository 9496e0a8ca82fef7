"""Metrics of other packages: whatever registers itself when an entry point of `headlight.metrics` is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint

from attribution.plugins import load_group
from evaluation.metric import METRICS

GROUP = "headlight.metrics"
ORIGINS: dict[str, str] = {}  # id of a metric -> distribution and version it came with


def load_plugins(points: Iterable[EntryPoint] | None = None) -> None:
    """Load every entry point of the group, see `attribution.plugins`."""
    load_group(GROUP, "metric", METRICS, ORIGINS, points)
