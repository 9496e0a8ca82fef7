"""Timing in pairs: both sides take turns, so that a machine whose speed drifts slows both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

Work = Callable[[], object]


@dataclass(frozen=True)
class Ratio:
    """How much `name` costs, in units of `unit`; `limit` is what it should not exceed."""

    name: str
    unit: str
    limit: float | None
    ratios: list[float]
    unit_seconds: float

    @property
    def median(self) -> float:
        """Of the turns."""
        return statistics.median(self.ratios)

    def __str__(self) -> str:
        low, high = min(self.ratios), max(self.ratios)
        measured = f"{self.median:6.3f} [{low:.3f}, {high:.3f}] x {self.unit} ({self.unit_seconds:.3f} s)"
        return f"{self.name:44s} {measured}{verdict(self.median, self.limit)}"


def verdict(value: float, limit: float | None) -> str:
    """Whether a limit holds, in words; nothing where there is none."""
    return "" if limit is None else f"  (limit {limit:g}: {'pass' if value <= limit else 'FAIL'})"


def ratio(
    name: str,
    work: Work,
    unit: str,
    baseline: Work,
    *,
    limit: float | None = None,
    rounds: int = 7,
    clock: Callable[[], float] = time.process_time,
) -> Ratio:
    """Median, least and greatest of `rounds` ratios work / baseline, after one turn of each that is not counted."""
    work(), baseline()
    pairs = [(_timed(work, clock), _timed(baseline, clock)) for _ in range(rounds)]
    return Ratio(name, unit, limit, [a / b for a, b in pairs], statistics.median(b for _, b in pairs))


def _timed(work: Work, clock: Callable[[], float]) -> float:
    started = clock()
    work()
    return clock() - started
