"""A study of arms: what each reached, and by how much the patterns differ from every control."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.arms import BASE, PATTERNS
from pipeline.report.html import Child, Safe, interval, number, plain_table, signed, tag

Row = Mapping[str, Any]

_ARMS = (
    "Means over seeds and examples, ± the standard deviation over seeds. Below, the paired difference from “base”, "
    "example by example, with its 95 % interval; ≈ where that holds 0."
)
_COSTS = (
    "mflops are millions of operations in the matrix products of a forward pass, two for each multiply-add. Products "
    "are dense: what a pattern leaves out is computed too, so that sparsity, the share of pairs of tokens that is not "
    "attended to, saves nothing here. milliseconds are measured, one text in a pass, beside the other tasks of the "
    "run; they are also those of other attention code, and no sign that a pattern is slower or faster as such."
)
_WIDTH, _ROOM = 116, 4  # of a strip, and what is left free at both ends of it


def study(rows: Sequence[Row], title: str) -> Child:
    """Both tables of a study (rows of ARMS)."""
    costs = any(row["metric"] == "mflops" for row in rows)
    told = tag("p", f"{_ARMS} {_COSTS}" if costs else _ARMS, class_="hint")
    return [tag("h3", title), told, _reached(rows), _differences(rows)]


def _reached(rows: Sequence[Row]) -> Safe:
    """Metrics by arms."""
    arms = _distinct(rows, "arm")
    found = {(row["metric"], row["arm"], row["against"]): row for row in rows}
    body = [
        [metric, *(_value(found.get((metric, arm, None)), found.get((metric, arm, BASE))) for arm in arms)]
        for metric in _distinct(rows, "metric")
    ]
    return plain_table(["Metric", *arms], body)


def _value(own: Row | None, less_base: Row | None) -> list[Child]:
    if own is None:
        return ["–"]
    spread = "" if own["spread"] is None else f" ± {number(own['spread'])}"
    return [tag("b", number(own["value"])), spread, tag("small", _told(less_base)) if less_base else None]


def _differences(rows: Sequence[Row]) -> Child:
    """Metrics by controls: the patterns less each of them, as numbers and as strips of one scale for each metric."""
    pairs = [row for row in rows if row["arm"] == PATTERNS and row["against"] is not None]
    controls = _distinct(pairs, "against")
    if not controls:
        return None
    body: list[list[Child]] = []
    for metric in _distinct(pairs, "metric"):
        own = {row["against"]: row for row in pairs if row["metric"] == metric}
        ends = [abs(row[end]) for row in own.values() for end in ("value", "low", "high")]
        largest = max(filter(math.isfinite, ends), default=0.0)
        body.append([metric, *(_difference(own.get(control), largest) for control in controls)])
    return [tag("h4", "The patterns less each control"), plain_table(["Metric", *controls], body)]


def _difference(row: Row | None, largest: float) -> list[Child]:
    if row is None:
        return ["–"]
    if not math.isfinite(row["low"] + row["high"]):  # of one example
        return [_told(row)]
    value, low, high = (_x(row[name], largest) for name in ("value", "low", "high"))
    strip = tag(
        "svg",
        tag("line", x1=f"{_x(0, largest):.1f}", x2=f"{_x(0, largest):.1f}", y1=0, y2=12, class_="chance"),
        tag("line", x1=f"{low:.1f}", x2=f"{high:.1f}", y1=6, y2=6, class_="whisker"),
        tag("circle", cx=f"{value:.1f}", cy=6, r=3),
        class_="strip", viewBox=f"0 0 {_WIDTH} 12", aria_hidden="true",
    )  # fmt: skip
    return [_told(row), tag("div", strip)]


def _x(value: float, largest: float) -> float:
    """Where a value lies between minus and plus the largest."""
    return _WIDTH / 2 * (1 + value / (largest or 1.0) * (1 - 2 * _ROOM / _WIDTH))


def _told(row: Row) -> str:
    same = " ≈" if row["low"] <= 0 <= row["high"] else ""
    return f"{signed(row['value'])} {interval(row['low'], row['high'])}{same}"


def _distinct(rows: Sequence[Row], column: str) -> list[str]:
    return list(dict.fromkeys(row[column] for row in rows))
