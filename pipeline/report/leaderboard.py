"""The table of methods and metrics, and the tables of differences to the controls."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from evaluation import METRICS
from pipeline.report.finding import control_title, controls, title, verdict
from pipeline.report.html import Safe, interval, join, number, signed, tag
from pipeline.standing import Standing, higher_is_better, is_control, leading_metric, ranked

_STRIP, _PAD = 116, 4  # width of the interval strips, and the room left at both ends
_OWN, OWN_TITLE = "_random", "each method's own random head masks"
_SIGNS = {True: ("▲", "better"), False: ("▼", "worse"), None: ("≈", "same")}


@dataclass(frozen=True)
class Board:
    """The metrics of a run, ordered for reading."""

    entries: list[Standing]
    manifest: Mapping[str, Any]

    @property
    def metrics(self) -> list[str]:
        """Ids, the leading one first."""
        found = list(dict.fromkeys(entry.metric for entry in self.entries))
        leading = leading_metric(found)
        return sorted(found, key=lambda metric: metric != leading)

    @property
    def labels(self) -> list[str]:
        """Methods by the leading metric, best first; those without a value last."""
        order = [entry.method for entry in ranked(self.entries, self.metrics[0])] if self.metrics else []
        return list(dict.fromkeys([*order, *(self.manifest.get("methods") or {})]))

    def control(self, label: str) -> bool:
        """Whether the label is only a yardstick."""
        return is_control(label, self.manifest)

    def value(self, label: str, metric: str) -> Standing | None:
        """A method's own value."""
        own = (e for e in self.entries if e.method == label and e.metric == metric and e.against is None)
        return next(own, None)


def leaderboard(board: Board) -> Safe:
    """Methods by metrics, controls apart."""
    columns = {metric: _Column.of(board, metric) for metric in board.metrics}
    head = tag(
        "tr", tag("th", "Method", scope="col"), [_heading(metric, metric == board.metrics[0]) for metric in columns]
    )
    methods = [label for label in board.labels if not board.control(label)]
    yardsticks = [label for label in board.labels if board.control(label)]
    apart = tag("tr", tag("th", "Controls", scope="rowgroup", colspan=len(columns) + 1), class_="apart")
    bodies = [tag("tbody", [_row(board, label, columns) for label in methods], data_sort=True)]
    bodies += [tag("tbody", apart), tag("tbody", [_row(board, label, columns) for label in yardsticks], data_sort=True)]
    table = tag("table", tag("thead", head), bodies[: 3 if yardsticks else 1], class_="board", id="board")
    return tag("div", table, class_="scroll")


def comparisons(board: Board) -> Safe:
    """For each family of controls: by how much each method differs from it, example by example.

    Families that each are of one method alone, its own random masks, share a table.
    """
    methods: dict[str, dict[str, None]] = {}
    for label in (label for label in board.labels if not board.control(label)):
        for name in (name for metric in board.metrics for name in controls(label, metric, board.entries)):
            methods.setdefault(name, {})[label] = None
    own = [name for name, found in methods.items() if [f"{label}{_OWN}" for label in found] == [name]]
    shared = [name for name in methods if len(own) < 2 or name not in own]
    tables = [_comparison(board, control_title(name), lambda label, name=name: name) for name in shared]  # type: ignore[misc]
    if len(own) > 1:
        tables.append(_comparison(board, OWN_TITLE, lambda label: f"{label}{_OWN}"))
    return join(tables)


@dataclass(frozen=True)
class _Column:
    """What the cells of one metric share."""

    metric: str
    low: float
    high: float
    best: str | None
    chance: float | None

    @classmethod
    def of(cls, board: Board, metric: str) -> _Column:
        order = ranked(board.entries, metric)
        bounds = [bound for entry in order for bound in (entry.low, entry.high, entry.value) if math.isfinite(bound)]
        first = next((entry.method for entry in order if not board.control(entry.method)), None)
        chance = next((entry.value for entry in order if entry.method == "random"), None)
        return cls(metric, min(bounds, default=0.0), max(bounds, default=1.0), first, chance)

    def x(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return _PAD + share * (_STRIP - 2 * _PAD)


def _heading(metric: str, sorts: bool) -> Safe:
    arrow = {True: "↑", False: "↓", None: ""}[higher_is_better(metric)]
    meaning = {True: "higher is better", False: "lower is better", None: ""}[higher_is_better(metric)]
    known = METRICS.get(metric.split("@")[0])
    about = f"{known.formula}. {known.source}" if known else ""
    button = tag("button", title(metric), " ", tag("span", arrow, aria_hidden="true"), type="button", title=about)
    order = {True: "descending", False: "ascending", None: "descending"}[higher_is_better(metric)] if sorts else None
    return tag("th", button, tag("small", meaning), scope="col", class_="number", data_direction=arrow, aria_sort=order)


def _row(board: Board, label: str, columns: Mapping[str, _Column]) -> Safe:
    cells = [_cell(board.value(label, metric), column, label) for metric, column in columns.items()]
    return tag("tr", tag("th", method_name(label, board.manifest), scope="row"), cells)


def method_name(label: str, manifest: Mapping[str, Any]) -> Safe:
    """A label with what hides behind it."""
    entry = (manifest.get("methods") or {}).get(label) or {}
    details = [entry["method"]] if entry.get("method", label) != label else []
    details += [f"{key}={value}" for key, value in (entry.get("params") or {}).items() if value is not None]
    blind = tag("span", "class-blind", class_="tag", title="the same whatever class is explained")
    small = tag("small", " ".join(details)) if details else None
    return join(
        tag("span", label, title=entry.get("source")), [" ", blind] if entry.get("class_blind") else None, small
    )


def _cell(entry: Standing | None, column: _Column, label: str) -> Safe:
    if entry is None or math.isnan(entry.value):
        return tag("td", "–", class_="number", data_value="")
    best = tag("span", "best", class_="tag best") if label == column.best else None
    undefined = tag("small", f"{entry.n_undefined} undefined") if entry.n_undefined else None
    value = tag("div", best, " ", tag("b", number(entry.value)))
    bounds = tag("small", interval(entry.low, entry.high))
    return tag("td", value, bounds, _strip(entry, column), undefined, class_="number", data_value=repr(entry.value))


def _strip(entry: Standing, column: _Column) -> Safe:
    """The interval drawn on the column's scale, with a tick at `random`."""
    chance = column.chance
    track = _line(_PAD, _STRIP - _PAD, 5, 5, "track")
    tick = None if chance is None else _line(column.x(chance), column.x(chance), 0, 10, "chance")
    whisker = (
        None
        if math.isnan(entry.low + entry.high)
        else _line(column.x(entry.low), column.x(entry.high), 5, 5, "whisker")
    )
    dot = tag("circle", cx=f"{column.x(entry.value):.1f}", cy=5, r=3)
    return tag("svg", track, tick, whisker, dot, class_="strip", viewBox=f"0 0 {_STRIP} 10", aria_hidden="true")


def _line(x1: float, x2: float, y1: float, y2: float, kind: str) -> Safe:
    return tag("line", x1=f"{x1:.1f}", x2=f"{x2:.1f}", y1=y1, y2=y2, class_=kind)


def _comparison(board: Board, name: str, family_of: Callable[[str], str]) -> Safe:
    cells = {
        label: [controls(label, metric, board.entries).get(family_of(label), []) for metric in board.metrics]
        for label in board.labels
        if not board.control(label)
    }
    rows = [
        tag("tr", tag("th", label, scope="row"), [_against(found) for found in row])
        for label, row in cells.items()
        if any(row)
    ]
    headings = [tag("th", title(metric), scope="col", class_="number") for metric in board.metrics]
    caption = tag("caption", "Difference to ", tag("b", name))
    head = tag("thead", tag("tr", tag("th", "Method", scope="col"), headings))
    return tag("div", tag("table", caption, head, tag("tbody", rows), class_="lift"), class_="scroll")


def _against(found: list[Standing]) -> Safe:
    """One difference with its verdict; of several the mean, and how many are clearly beaten."""
    if not found:
        return tag("td", "–", class_="number")
    mean = sum(entry.value for entry in found) / len(found)
    if len(found) > 1:
        won = sum(entry.better is True for entry in found)
        words = tag("small", f"better than {won} of {len(found)}")
        return tag("td", tag("div", tag("b", signed(mean))), words, class_="number")
    sign, kind = _SIGNS[found[0].better]
    value = tag("div", tag("b", signed(mean)), " ", tag("span", sign, aria_hidden="true"))
    words = tag("small", interval(found[0].low, found[0].high), " ", tag("span", verdict(found[0]), class_="verdict"))
    return tag("td", value, words, class_=f"number {kind}")
