"""The gates that only warn: seconds, memory, slow drift, and missing nights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.regression.compare import Departure, Pairs
from pipeline.regression.decide import PASS, REGRESSION, WARN, Finding, Rule, direction, statistical, tolerance_of
from pipeline.regression.verdict import Drift, Move

COMPUTING = ("load_model", "identify_heads", "attribute", "evaluate", "compare_operators", "explain_again")
MOVED, MOVES = 5, 30  # examples of each column that moved, and of all together

Manifest = Mapping[str, Any]


def cost(
    champion: Manifest, candidate: Manifest, found: Sequence[Departure], factors: Mapping[str, float]
) -> Iterator[Finding]:
    """Seconds and memory against the champion's, where all of both was computed on the same kind of machine."""
    why_not = [f"{departure.key} differs" for departure in found if departure.kind in ("machine", "device")]
    sides = {"champion": champion, "candidate": candidate}
    why_not += [f"the {name} reused results" for name, manifest in sides.items() if _reused(manifest)]
    for gate, (measured, unit, factor) in MEASURED.items():
        yield _cost(gate, measured(champion), measured(candidate), unit, factors[factor], why_not)


def _cost(gate: str, before: float, after: float, unit: str, factor: float, why_not: Sequence[str]) -> Finding:
    if not before or not after:
        why_not = [*why_not, "it was not measured"]
    if why_not:
        return Finding(gate, PASS, f"{gate} not compared: {', '.join(why_not)}")
    text = f"{gate}: {after:.4g} {unit}, the champion took {before:.4g} {unit} (warning beyond {factor:g} times)"
    level = WARN if after > factor * before else PASS
    return Finding(gate, level, text, champion=before, candidate=after, delta=after - before)


def _seconds(manifest: Manifest) -> float:
    timings = manifest.get("timings") or {}
    return float(sum(timings.get(stage, 0.0) for stage in COMPUTING))


def _peak(of: str) -> Callable[[Manifest], float]:
    return lambda manifest: float((manifest.get("memory") or {}).get(f"{of}_peak_mib") or 0.0)


def _reused(manifest: Manifest) -> bool:
    return any(stage.get("reused") for stage in (manifest.get("reuse") or {}).values())


MEASURED = {  # gate -> how (0 where it was not), its unit, and the factor beyond which it warns
    "runtime": (_seconds, "s", "runtime"),
    "memory": (_peak("driver"), "MiB", "memory"),
    "worker_memory": (_peak("worker"), "MiB", "memory"),
}


def weak(findings: Sequence[Finding]) -> list[str]:
    """A sentence where a loss of the tolerance would be missed too often: too few examples, or too much noise."""
    times = {f: f.n_needed / f.n for f in findings if f.n_needed and f.n}
    blunt = [finding for finding, needed in times.items() if needed > 1]
    if not blunt:
        return []
    worst = max(blunt, key=times.__getitem__)
    return [
        f"{len(blunt)} of {len(times)} comparisons find a loss of the tolerance on fewer than 9 nights of 10: "
        f"{worst.title} finds {worst.detectable:.2g}, and needs about {worst.n_needed} examples for {worst.tolerance:g}"
    ]


def missing_night(text: str | None) -> list[Finding]:
    """The gap before this night."""
    return [] if text is None else [Finding("schedule", WARN, text)]


def drift(pairs: Pairs, rule: Rule, known: Sequence[Finding]) -> tuple[list[Drift], list[Finding]]:
    """How far the means went since the first champion, with a warning where small losses added up to a large one.

    What is a regression of this night already is not said twice.
    """
    said = {finding.key for finding in known if finding.level == REGRESSION}
    compared = statistical(pairs, rule)
    drifts = [Drift(*f.key, f.champion or 0.0, f.candidate or 0.0, f.delta or 0.0) for f in compared]
    lost = [finding for finding in compared if finding.level == REGRESSION and finding.key not in said]
    return drifts, [replace(finding, gate="drift", level=WARN, text=_drifted(finding)) for finding in lost]


def _drifted(finding: Finding) -> str:
    lost = abs(finding.delta or 0.0)
    return f"{finding.title} lost {lost:.4g} since the first champion (alarm line {finding.line:.3g})"


def moved_most(pairs: Pairs, findings: Sequence[Finding], rule: Rule, rows: Mapping[str, int]) -> list[Move]:
    """The examples that moved most, measured in tolerances: in the columns that are findings, else in all."""
    loud = {finding.key for finding in findings if finding.level in (WARN, REGRESSION) and finding.key in pairs.keys}
    chosen = pairs.only(loud) if loud else pairs
    moves = [move for j in range(len(chosen.keys)) for move in _moves(chosen, j, rows)]
    moves.sort(key=lambda move: -abs(move.loss) / (tolerance_of(move.metric, rule) or 1.0))
    return moves[: min(MOVES, MOVED * max(1, len(loud)))]


def _moves(pairs: Pairs, column: int, rows: Mapping[str, int]) -> Iterator[Move]:
    method, metric = pairs.keys[column]
    before, after = pairs.champion[:, column], pairs.candidate[:, column]
    losses = np.nan_to_num((before - after) * (direction(metric) or 1))
    for row in np.argsort(-np.abs(losses), kind="stable")[:MOVED]:
        if losses[row]:
            item = pairs.items[row]
            numbers = (float(before[row]), float(after[row]), float(losses[row]))
            yield Move(method, metric, item, rows.get(item, -1), *numbers)
