"""Perturbation curves as inline SVG: a line per method, an interval band, a legend that switches lines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.report.curves import MeanCurve
from pipeline.report.html import Safe, number, tag

COLOURS = 8  # hues in the style sheet; further methods repeat them with other dashes
_WIDTH, _HEIGHT = 680, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 18, 12, 40
_DASHES = ("", "7 3", "2 3")
_CAPTIONS = {
    "aopc": "tokens removed, most relevant first: the faster a curve falls, the better its ranking",
    "comprehensiveness": "tokens removed, most relevant first: the faster a curve falls, the better its ranking",
    "sufficiency": "only the most relevant tokens kept: the higher a curve, the better its ranking",
    "activation": "tokens revealed, most relevant first: the faster a curve rises, the better its ranking",
    "pruning": "tokens pruned, least relevant first: the longer a curve stays, the better its ranking",
}


@dataclass(frozen=True)
class Wording:
    """What the axes of a figure are: the horizontal one, the same behind a percentage, and the vertical one."""

    axis: str
    of: str
    measure: str


TOKENS = Wording("share of tokens", "of the tokens", "mean probability of the explained target")


def charts(
    curves: Sequence[MeanCurve], labels: Sequence[str], controls: frozenset[str], wording: Wording = TOKENS
) -> list[Safe]:
    """A figure per curve family; families that hold the same points are drawn once."""
    families: dict[tuple[str, str], dict[str, MeanCurve]] = {}
    for curve in curves:
        families.setdefault((curve.curve, curve.operator), {})[curve.method] = curve
    looks = {
        label: _look(label, rank, label in controls) for rank, label in enumerate(_methods_first(labels, controls))
    }
    return [_figure(name, operator, members, looks, wording) for (name, operator), members in families.items()]


def _methods_first(labels: Sequence[str], controls: frozenset[str]) -> list[str]:
    return sorted(labels, key=lambda label: label in controls)


def _look(label: str, rank: int, control: bool) -> dict[str, str]:
    if control:
        return {"class_": "line control", "stroke_dasharray": "1 4" if label == "random" else "5 4"}
    return {"class_": f"line c{rank % COLOURS}", "stroke_dasharray": _DASHES[rank // COLOURS % len(_DASHES)] or "none"}


def _figure(
    name: str,
    operator: str,
    members: Mapping[str, MeanCurve],
    looks: Mapping[str, dict[str, str]],
    wording: Wording,
) -> Safe:
    shown = [label for label in looks if label in members]
    scale = _Scale([members[label] for label in shown], wording.axis)
    lines = [_series(members[label], looks[label], scale) for label in shown]
    about = f"{name}: {wording.measure} by {wording.axis} ({operator})"
    svg = tag(
        "svg",
        scale.axes(),
        lines,
        tag("line", class_="cursor", y1=_TOP, y2=_HEIGHT - _BOTTOM),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=about,
    )
    legend = tag("ul", [_key(label, looks[label]) for label in shown], class_="legend", aria_label="Methods shown")
    about_it = " · ".join(part for part in (operator, _CAPTIONS.get(name)) if part)
    caption = tag("figcaption", tag("b", name), f" · {about_it}")
    plot = tag("div", svg, tag("div", class_="readout", aria_hidden="true"), class_="plot")
    numbers = _numbers(shown, members)
    chart = tag("div", plot, legend, class_="chart")
    return tag("figure", caption, chart, numbers, data_chart=name, data_of=wording.of)


class _Scale:
    """Levels and probabilities to pixels."""

    def __init__(self, curves: Sequence[MeanCurve], axis: str):
        self.axis = axis
        self.right = max((float(np.nanmax(curve.levels)) for curve in curves), default=1.0) or 1.0
        bounds = [float(bound) for c in curves for bound in (np.nanmin(c.mean - c.half), np.nanmax(c.mean + c.half))]
        self.low = max(0.0, math.floor(10 * min(bounds, default=0.0)) / 10)
        self.high = min(1.0, math.ceil(10 * max(bounds, default=1.0)) / 10) or 1.0

    def x(self, level: float) -> float:
        return _LEFT + level / self.right * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def axes(self) -> list[Safe]:
        """Grid lines with numbers, and what the axes are."""
        ticks, levels = _ticks(self.low, self.high), _ticks(0.0, self.right)
        right = _WIDTH - _RIGHT
        grid = [
            tag("line", class_="grid", x1=_LEFT, x2=right, y1=f"{self.y(t):.1f}", y2=f"{self.y(t):.1f}") for t in ticks
        ]
        rows = [_text(number(tick, 2), _LEFT - 8, self.y(tick) + 4, "end") for tick in ticks]
        columns = [_text(f"{100 * level:.0f} %", self.x(level), _HEIGHT - _BOTTOM + 18, "middle") for level in levels]
        return [*grid, *rows, *columns, _text(self.axis, right, _HEIGHT - 4, "end")]


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between two bounds, four to eight of them."""
    step = next((step for step in (0.05, 0.1, 0.2) if (high - low) / step <= 7.01), 0.2)
    return [index * step for index in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _text(words: str, x: float, y: float, anchor: str) -> Safe:
    return tag("text", words, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)


def _series(curve: MeanCurve, look: Mapping[str, str], scale: _Scale) -> Safe:
    """Band, line and points of one method; the points' values are read by the script."""
    places = [
        (scale.x(float(level)), float(mean), float(half))
        for level, mean, half in zip(curve.levels, curve.mean, curve.half, strict=True)
    ]
    upper = [f"{x:.1f},{scale.y(mean + half):.1f}" for x, mean, half in places]
    lower = [f"{x:.1f},{scale.y(mean - half):.1f}" for x, mean, half in reversed(places)]
    line = tag(
        "polyline",
        points=" ".join(f"{x:.1f},{scale.y(mean):.1f}" for x, mean, _ in places),
        stroke_dasharray=look["stroke_dasharray"],
    )
    values = " ".join(
        f"{x:.1f}:{level:.3f}:{mean:.3f}:{half:.3f}"
        for (x, mean, half), level in zip(places, curve.levels, strict=True)
    )
    band = tag("polygon", points=" ".join(upper + lower))
    return tag("g", band, line, class_=look["class_"], data_method=curve.method, data_points=values)


def _key(label: str, look: Mapping[str, str]) -> Safe:
    swatch = tag(
        "svg",
        tag("line", x1=0, x2=26, y1=5, y2=5, stroke_dasharray=look["stroke_dasharray"]),
        viewBox="0 0 26 10",
        aria_hidden="true",
        class_=look["class_"],
    )
    return tag("li", tag("button", swatch, label, type="button", aria_pressed="true", data_method=label))


def _numbers(shown: Sequence[str], members: Mapping[str, MeanCurve]) -> Safe:
    """The same as a table, for those who cannot see the lines."""
    levels = max((members[label].levels for label in shown), key=len)
    head = tag(
        "tr",
        tag("th", "Method", scope="col"),
        [tag("th", f"{100 * level:.0f} %", scope="col", class_="number") for level in levels],
    )
    rows = [
        tag(
            "tr",
            tag("th", label, scope="row"),
            [tag("td", number(float(mean)), class_="number") for mean in members[label].mean],
        )
        for label in shown
    ]
    table = tag("table", tag("thead", head), tag("tbody", rows), class_="plain")
    return tag("details", tag("summary", "Numbers of this figure"), tag("div", table, class_="scroll"))
