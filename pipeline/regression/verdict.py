"""The verdict on a night: what `verdict.json` holds. docs/regression.md describes each field."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.redact import redacted
from pipeline.regression.compare import Departure
from pipeline.regression.decide import LEVELS, PASS, REGRESSION, WARN, Finding

SCHEMA_VERSION = "2.0"
FAILED, INCOMPARABLE, NO_CHAMPION, BAD_INPUT = "failed", "incomparable", "no_champion", "bad_input"
EXIT_CODES = {
    PASS: 0,
    WARN: 0,
    FAILED: 1,
    REGRESSION: 2,
    INCOMPARABLE: 3,
    NO_CHAMPION: 3,
    BAD_INPUT: 4,
}


@dataclass(frozen=True)
class Party:
    """A run in the comparison."""

    run_id: str
    name: str
    folder: str
    created: str
    model: str | None = None
    mlflow_run_id: str | None = None


@dataclass(frozen=True)
class Move:
    """An example whose value moved; a positive `loss` is for the worse."""

    method: str
    metric: str
    item_id: str
    row_index: int
    champion: float
    candidate: float
    loss: float


@dataclass(frozen=True)
class Drift:
    """A mean then, at the first champion, and now."""

    method: str
    metric: str
    first: float
    now: float
    delta: float


@dataclass
class Verdict:
    """All that is said about a night."""

    series: str
    night: str  # name of the candidate's run
    started: str
    verdict: str = PASS
    finished: str | None = None
    reasons: list[str] = field(default_factory=list)  # why it is incomparable, failed or bad input
    vary: list[str] = field(default_factory=list)
    champion: Party | None = None
    candidate: Party | None = None
    first_champion: Party | None = None
    departures: list[Departure] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    moved: list[Move] = field(default_factory=list)
    drift: list[Drift] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """What the process ends with."""
        return EXIT_CODES[self.verdict]

    def add(self, *findings: Finding) -> None:
        """Take findings in, the worst of which decides; a verdict that is not about numbers stays."""
        self.findings += findings
        self.findings.sort(key=lambda finding: LEVELS.index(finding.level))
        if self.verdict in (PASS, WARN, REGRESSION):
            levels = {finding.level for finding in self.findings}
            self.verdict = next((level for level in (REGRESSION, WARN) if level in levels), PASS)

    def stop(self, verdict: str, *reasons: str) -> None:
        """End without a comparison."""
        self.verdict = verdict
        self.reasons += map(redacted, reasons)

    @property
    def loud(self) -> list[Finding]:
        """The findings that are not a pass, the worst first."""
        return [finding for finding in self.findings if finding.level != PASS]

    @property
    def compared(self) -> list[Finding]:
        """The comparisons of means."""
        return [finding for finding in self.findings if finding.gate == "statistical"]

    def count(self, level: str) -> int:
        """How many findings have a level."""
        return sum(finding.level == level for finding in self.findings)

    def to_json(self) -> str:
        """The document; numbers that are not finite are null."""
        content = {"schema_version": SCHEMA_VERSION, **asdict(self), "exit_code": self.exit_code}
        return json.dumps(_finite(content), indent=2, sort_keys=True) + "\n"

    def summary(self) -> str:
        """One line."""
        against = f" against {self.champion.name}" if self.champion else ""
        counts = ", ".join(f"{self.count(level)} {level}" for level in LEVELS if self.count(level))
        return f"{self.verdict.upper()} (exit {self.exit_code}): {self.night}{against}{f': {counts}' if counts else ''}"

    def lines(self) -> Iterator[str]:
        """One line for each reason and each finding that is not a pass, then the summary."""
        yield from (f"{self.verdict}: {reason}" for reason in self.reasons)
        yield from map(str, self.loud)
        yield from (f"note: {note}" for note in self.notes)
        yield self.summary()


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
