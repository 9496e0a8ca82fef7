"""Moving the champion: an explicit command, never a consequence of a night that passed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attribution.errors import InputError
from pipeline.config import TrackingConfig
from pipeline.regression.champion import remember, take_snapshot
from pipeline.regression.registry import Champion, registry_of
from pipeline.regression.series import Series
from pipeline.runs import Run

VERDICT = "verdict.json"
NEEDS_REASON = ("regression", "incomparable")  # verdicts that are promoted against


@dataclass(frozen=True)
class Promotion:
    """Who became champion of which series, after whom."""

    series: str
    champion: Champion
    before: Champion | None

    def __str__(self) -> str:
        after = f", after {self.before.name} ({self.before.run_id})" if self.before else ", the first one"
        return f"{self.champion.name} ({self.champion.run_id}) is the champion of {self.series}{after}"


def promote(
    folder: Path, root: Path, *, bootstrap: bool = False, series: str | None = None, reason: str | None = None
) -> Promotion:
    """Make a run the champion. InputError where the run cannot be one, or `bootstrap` does not fit the situation."""
    run = Run(folder)
    place = Series(root, series or series_of(run))
    config = tracking_of(run.config)
    registry = registry_of(place, config)
    champions = registry.champions()
    _check(run, place, champions, bootstrap, reason)
    before = champions[-1] if champions else None
    chosen = Champion(
        run_id=str(run.manifest["run_id"]),
        name=str(run.manifest["name"]),
        promoted=datetime.now(UTC).isoformat(timespec="seconds"),
        reason=reason,
        mlflow_run_id=(run.manifest.get("tracking") or {}).get("run_id"),
    )
    if before is None or before.run_id != chosen.run_id:
        take_snapshot(run, place)
        registry.promote(chosen)
        remember(place, config)
    return Promotion(place.name, chosen, before)


def series_of(run: Run) -> str:
    """The series a run belongs to: what its configuration says, else its name."""
    return str((run.config.get("regression") or {}).get("series") or run.manifest["name"])


def tracking_of(config: Mapping[str, Any]) -> TrackingConfig:
    """The tracking group of a run's configuration."""
    known = TrackingConfig.__dataclass_fields__
    given = {key: value for key, value in (config.get("tracking") or {}).items() if key in known}
    return TrackingConfig(**{"store": "none", **given})


def _check(run: Run, series: Series, champions: list[Champion], bootstrap: bool, reason: str | None) -> None:
    name = run.folder.name
    if run.manifest.get("status") == "failed":
        raise InputError(
            f"run error: {name} failed ({len(run.manifest['failures'])} failures); promote a run that is whole."
        )
    if bootstrap and champions:
        raise InputError(
            f"run error: --bootstrap: {series.name} has a champion, {champions[-1].name}. "
            f"`headlight promote {name}` moves it."
        )
    if not bootstrap and not champions:
        raise InputError(
            f"run error: {series.name} has no champion yet. "
            f"`headlight promote --bootstrap {name}` makes this run the first."
        )
    verdict = _verdict(run.folder)
    if verdict in NEEDS_REASON and not reason and champions:
        raise InputError(f"run error: the verdict on {name} is {verdict}; say why it is promoted: --reason TEXT.")


def _verdict(folder: Path) -> str | None:
    path = folder / VERDICT
    return str(json.loads(path.read_text("utf-8"))["verdict"]) if path.exists() else None
