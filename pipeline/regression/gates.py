"""The gates that only warn: seconds, memory, slow drift, and missing nights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.regression.compare import Departure, Pairs
from pipeline.regression.decide import (
    PASS,
    REGRESSION,
    WARN,
    Finding,
    Rule,
    direction,
    statistical,
    title,
    tolerance_of,
)
from pipeline.regression.verdict import Drift, Move

COMPUTING = ("load_model", "identify_heads", "attribute", "evaluate")
MOVED = 5  # examples of each column that moved

Manifest = Mapping[str, Any]


def cost(
    champion: Manifest, candidate: Manifest, found: Sequence[Departure], factors: Mapping[str, float]
) -> Iterator[Finding]:
    """Seconds and memory against the champion's, where both were measured on the same kind of machine."""
    machine = [f"{departure.key} differs" for departure in found if departure.kind in ("machine", "device")]
    reused = [name for name, run in (("champion", champion), ("candidate", candidate)) if _reused(run)]
    why_not = machine + [f"the {name} reused results" for name in reused]
    measured = {
        "runtime": (_seconds(champion), _seconds(candidate), "s", why_not),
        "memory": (_peak(champion), _peak(candidate), "MiB", machine),
    }
    for gate, (before, after, unit, reasons) in measured.items():
        yield _cost(gate, before, after, unit, factors[gate], reasons)


def _cost(
    gate: str, before: float | None, after: float | None, unit: str, factor: float, reasons: Sequence[str]
) -> Finding:
    if not before or not after:
        reasons = [*reasons, "it was not measured"]
    if reasons or before is None or after is None:
        return Finding(gate, PASS, f"{gate} not compared: {', '.join(reasons)}")
    text = f"{gate}: {after:.4g} {unit}, the champion took {before:.4g} {unit} (warning beyond {factor:g} times)"
    level = WARN if after > factor * before else PASS
    return Finding(gate, level, text, champion=before, candidate=after, delta=after - before)


def _seconds(manifest: Manifest) -> float:
    timings = manifest.get("timings") or {}
    return float(sum(timings.get(stage, 0.0) for stage in COMPUTING))


def _peak(manifest: Manifest) -> float | None:
    peak = (manifest.get("memory") or {}).get("driver_peak_mib")
    return None if peak is None else float(peak)


def _reused(manifest: Manifest) -> bool:
    return any(stage.get("reused") for stage in (manifest.get("reuse") or {}).values())


def weak(findings: Sequence[Finding], found: float) -> list[str]:
    """A sentence where losses of `found` tolerances would be missed too often: too few examples, or too much noise."""
    compared = [f for f in findings if f.gate == "statistical" and f.detectable is not None and f.tolerance]
    blunt = {f.key: f.detectable / f.tolerance for f in compared if f.detectable > found * f.tolerance}  # type: ignore[operator]
    if not blunt:
        return []
    (method, metric), worst = max(blunt.items(), key=lambda item: item[1])
    return [
        f"{len(blunt)} of {len(compared)} comparisons find a loss on 9 nights of 10 only from more than {found:g} "
        f"tolerances on, {title(method, metric)} from {worst:.2g}; more examples would find smaller ones"
    ]


def missing_night(text: str | None) -> list[Finding]:
    """The gap before this night."""
    return [] if text is None else [Finding("schedule", WARN, text)]


def drift(pairs: Pairs, rule: Rule, known: Sequence[Finding]) -> tuple[list[Drift], list[Finding]]:
    """How far the means went since the first champion, with a warning where small losses added up to a large one.

    What is a finding of this night already is not said twice.
    """
    said = {finding.key for finding in known if finding.level in (WARN, REGRESSION)}
    compared = statistical(pairs, rule)
    drifts = [
        Drift(f.method or "", f.metric or "", f.champion or 0.0, f.candidate or 0.0, f.delta or 0.0) for f in compared
    ]
    warnings = [
        Finding(
            "drift",
            WARN,
            f"{title(f.method or '', f.metric or '')} lost {abs(f.delta or 0.0):.4g} since the first champion "
            f"(tolerated {f.tolerance:g} a night)",
            f.method,
            f.metric,
            *(f.champion, f.candidate, f.delta, f.low, f.high, f.p, f.tolerance, f.detectable, f.n),
        )
        for f in compared
        if f.level == REGRESSION and f.key not in said
    ]
    return drifts, warnings


def moved_most(pairs: Pairs, findings: Sequence[Finding], rule: Rule, rows: Mapping[str, int]) -> list[Move]:
    """The examples that moved most, measured in tolerances: in the columns that are findings, else in all."""
    loud = {finding.key for finding in findings if finding.level in (WARN, REGRESSION) and finding.key in pairs.keys}
    chosen = pairs.only(loud) if loud else pairs
    moves = [move for j in range(len(chosen.keys)) for move in _moves(chosen, j, rows)]
    moves.sort(key=lambda move: -abs(move.loss) / (tolerance_of(move.metric, rule) or 1.0))
    return moves[: MOVED * max(1, len(loud))]


def _moves(pairs: Pairs, column: int, rows: Mapping[str, int]) -> Iterator[Move]:
    method, metric = pairs.keys[column]
    before, after = pairs.champion[:, column], pairs.candidate[:, column]
    losses = np.nan_to_num((before - after) * (direction(metric) or 1))
    for row in np.argsort(-np.abs(losses), kind="stable")[:MOVED]:
        if losses[row]:
            item = pairs.items[row]
            numbers = (float(before[row]), float(after[row]), float(losses[row]))
            yield Move(method, metric, item, rows.get(item, -1), *numbers)
