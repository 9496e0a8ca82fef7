"""One night: run the experiment, compare it with the champion, confirm, write the verdict, say so."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from attribution.errors import HeadlightError, InputError
from pipeline.compose import run_key
from pipeline.config import Config
from pipeline.errors import StorageError
from pipeline.execution import Progress, make_progress
from pipeline.files import write_atomically
from pipeline.regression.champion import files_of
from pipeline.regression.compare import VARY, Departure, Pairs, Side, departures, pairs_of, same_digits
from pipeline.regression.confirm import of_the_night
from pipeline.regression.decide import PASS, REGRESSION, WARN, Finding, Rule, decide, golden
from pipeline.regression.fresh import Fresh, values_of
from pipeline.regression.gates import cost, drift, missing_night, moved_most, weak
from pipeline.regression.history import duration, gap
from pipeline.regression.record import history_line, write_verdict
from pipeline.regression.registry import Champion, Registry, registry_of
from pipeline.regression.series import Series, add_line, read_lines
from pipeline.regression.settings import rule_of
from pipeline.regression.verdict import BAD_INPUT, FAILED, INCOMPARABLE, NO_CHAMPION, Party, Verdict
from pipeline.regression.webhook import post
from pipeline.run import DONE, run
from pipeline.runs import Run
from pipeline.standing import is_control

SECRET, WEBHOOK = "regression.webhook", "HEADLIGHT_WEBHOOK"  # an override and a variable that must not be recorded


def regress(config: Config, overrides: Sequence[str] = (), progress: Progress | None = None) -> Verdict:
    """Run a night. Raises what stops it, once that is recorded; a night that is interrupted goes on the next time."""
    rule, series = rule_of(config), series_of(config)
    with series.alone():
        night = _Night(config, list(overrides), series, rule, progress or make_progress())
        try:
            night.execute()
        except StorageError:
            raise  # goes on where it was, once there is room
        except Exception as error:
            said = str(error) if isinstance(error, HeadlightError) else f"{type(error).__name__}: {error}"
            night.verdict.stop(BAD_INPUT if isinstance(error, InputError) else FAILED, *said.splitlines())
            night.record()
            raise
        night.record()
    return night.verdict


def overdue(config: Config) -> str | None:
    """What to say where a night is missing by now; None where none is. Runs nothing."""
    rule_of(config)
    return _gap(config, read_lines(series_of(config).nights))


def series_of(config: Config) -> Series:
    """The series a configuration belongs to."""
    return Series(Path(config.paths.root), config.regression.series or config.name)


def _gap(config: Config, nights: Sequence[dict[str, Any]]) -> str | None:
    spans = [duration(f"regression.{name}", getattr(config.regression, name)) for name in ("every", "late")]
    return gap(nights, datetime.now(UTC).replace(microsecond=0), *spans)


@dataclass
class _Night:
    config: Config
    overrides: list[str]
    series: Series
    rule: Rule
    progress: Progress
    folder: Path | None = None  # of the candidate's run, once there is one

    @cached_property
    def nights(self) -> list[dict[str, Any]]:
        """The nights before this one."""
        return read_lines(self.series.nights)

    @cached_property
    def name(self) -> str:
        """Name of the night's run: that of the same night where it was interrupted, unless the next one is due."""
        unnamed, marker = run_key(self.config), self.series.unfinished / "night.json"
        begun = json.loads(marker.read_text("utf-8")) if marker.exists() else {}
        if begun.get("run_key") == unnamed and not self._is_due(begun["started"]):
            return str(begun["name"])
        shutil.rmtree(self.series.unfinished, ignore_errors=True)
        name = f"{self.series.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        write_atomically(marker, json.dumps({"name": name, "run_key": unnamed, "started": _now()}).encode())
        return name

    def _is_due(self, started: str) -> bool:
        every = duration("regression.every", self.config.regression.every)
        return datetime.now(UTC) - datetime.fromisoformat(started) >= every

    @cached_property
    def verdict(self) -> Verdict:
        """The verdict as far as it is known."""
        return Verdict(self.series.name, self.name, _now(), vary=list(self.config.regression.vary))

    @cached_property
    def registry(self) -> Registry:
        """Where the champion is recorded."""
        return registry_of(self.series, self.config.tracking)

    def execute(self) -> None:
        """Run, compare, judge."""
        self.verdict.add(*missing_night(_gap(self.config, self.nights) if self.nights else None))
        config = of_the_night(self.config, self.name, str(self.series.unfinished / "store"))
        kept = [override for override in self.overrides if not override.lstrip("+").startswith(SECRET)]
        result = run(config, kept, self.progress)
        self.folder, candidate = result.folder, Run(result.folder)
        self.verdict.candidate = _party(candidate)
        if result.exit_code != DONE:
            self.verdict.stop(FAILED, *(f"{f['stage']}: {f['error']}" for f in candidate.manifest["failures"]))
            return
        champions = self.registry.champions()
        if not champions:
            hint = f"`headlight promote --bootstrap {self.name}` makes this night the first"
            self.verdict.stop(NO_CHAMPION, f"{self.series.name} has no champion to compare with; {hint}")
            return
        self._compare(config, champions, candidate)

    def _compare(self, config: Config, champions: Sequence[Champion], candidate: Run) -> None:
        try:
            champion = Run(files_of(champions[-1], self.series, self.registry))
        except InputError as error:
            self.verdict.stop(INCOMPARABLE, str(error))
            return
        self.verdict.champion = _party(champion)
        found = departures(_side(champion), _side(candidate), self.config.regression.vary)
        self.verdict.departures = found
        if forbidden := [departure for departure in found if not departure.allowed]:
            self.verdict.stop(INCOMPARABLE, *map(str, forbidden), *_advice(forbidden))
            return
        self._judge(Fresh(config, champion, candidate, found, self.series.unfinished, self.progress))
        self._look_back(champions, candidate)

    def _judge(self, fresh: Fresh) -> None:
        """The gates, hard ones first."""
        champion, candidate, chosen = fresh.champion, fresh.candidate, self.config.regression
        pairs = pairs_of(values_of(champion), values_of(candidate))
        gated = _without_controls(pairs, champion)
        self.verdict.add(*decide(gated, self.rule, fresh.pairs))
        self.verdict.notes += fresh.notes
        if same_digits(fresh.differences):  # any loss shows
            self.verdict.add(_repeatable(golden(pairs, self.rule), fresh, self.rule))
        else:
            self.verdict.notes += weak(self.verdict.findings)
        factors = {"runtime": chosen.runtime_factor, "memory": chosen.memory_factor}
        self.verdict.add(*cost(champion.manifest, candidate.manifest, fresh.differences, factors))
        self.verdict.moved = moved_most(gated, self.verdict.findings, self.rule, _rows(candidate))

    def _look_back(self, champions: Sequence[Champion], candidate: Run) -> None:
        """Drift since the first champion, where that was another one and can still be compared with."""
        if champions[0].run_id == champions[-1].run_id:
            return
        try:
            first = Run(files_of(champions[0], self.series, self.registry))
        except InputError as error:
            self.verdict.notes.append(f"no drift since the first champion: {error}")
            return
        self.verdict.first_champion = _party(first)
        found = departures(_side(first), _side(candidate), ("model", "versions", "code"))
        if forbidden := [str(departure) for departure in found if not departure.allowed]:
            self.verdict.notes.append(f"no drift since the first champion, {first.manifest['name']}: {forbidden[0]}")
            return
        pairs = _without_controls(pairs_of(values_of(first), values_of(candidate)), first)
        self.verdict.drift, warnings = drift(pairs, self.rule, self.verdict.findings)
        self.verdict.add(*warnings)

    def record(self) -> None:
        """Write everything, note the night, tell the webhook."""
        verdict = self.verdict
        verdict.finished = _now()
        if self.folder is not None:
            written = write_verdict(verdict, Run(self.folder), self.nights, texts=self.config.report.texts != "none")
            self._attach(written)
        write_atomically(self.series.verdict, verdict.to_json().encode())
        add_line(self.series.nights, history_line(verdict))
        shutil.rmtree(self.series.unfinished, ignore_errors=True)
        webhook = self.config.regression.webhook or os.environ.get(WEBHOOK)
        if webhook and (problem := post(webhook, verdict.to_json())):
            verdict.notes.append(problem)

    def _attach(self, files: Sequence[Path]) -> None:
        """Add the verdict to the night's record in MLflow, where it has one."""
        tags = {"headlight.verdict": self.verdict.verdict, "headlight.series": self.series.name}
        try:
            self.registry.attach(self.verdict.candidate.mlflow_run_id if self.verdict.candidate else None, files, tags)
        except HeadlightError as error:
            self.verdict.notes.append(f"the verdict is not in MLflow: {error}")


def _without_controls(pairs: Pairs, champion: Run) -> Pairs:
    """The columns that are judged: controls are yardsticks."""
    return pairs.only([key for key in pairs.keys if not is_control(key[0], champion.manifest)])


def _repeatable(finding: Finding, fresh: Fresh, rule: Rule) -> Finding:
    """A golden value that is off counts where the computation gives it again; else the computation is what is off."""
    if finding.level != REGRESSION:
        return finding
    again = golden(fresh.repeated(), rule)
    if again.level == PASS:
        return replace(finding, confirmed=True)
    text = f"{finding.text}; not confirmed: the same computation done again gives other values"
    return replace(finding, level=WARN, confirmed=False, text=text)


def _advice(forbidden: Sequence[Departure]) -> list[str]:
    """What to set where all of it may vary, if that is meant."""
    kinds = {departure.kind for departure in forbidden}
    if not kinds <= set(VARY):
        return []
    return [f"if that is meant: regression.vary with {' and '.join(sorted(kinds))}, or promote this night"]


def _side(run: Run) -> Side:
    return Side(run.manifest, run.config, frozenset(run.table("predictions", ["item_id"])["item_id"].to_pylist()))


def _party(run: Run) -> Party:
    manifest = run.manifest
    model, tracked = manifest.get("model") or {}, manifest.get("tracking") or {}
    made = {"model": model.get("name"), "mlflow_run_id": tracked.get("run_id")}
    return Party(manifest["run_id"], manifest["name"], str(run.folder), manifest["created"], **made)


def _rows(run: Run) -> dict[str, int]:
    examples = run.table("examples", ["item_id", "row_index"])
    return dict(zip(*(examples[name].to_pylist() for name in ("item_id", "row_index")), strict=True))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
