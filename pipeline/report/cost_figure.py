"""What the score of each method costs, as a picture and in numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from evaluation.statistics import CostPoint
from pipeline.recommendation import Recommendation
from pipeline.report.finding import title
from pipeline.report.html import Child, Safe, interval, number, tag

Place = tuple[float, float]  # in the picture, from its left upper corner

_WIDTH, _LEFT, _HEIGHT = 680, 50, 260
_LABEL = (150, 12)  # room that a label takes


def cost_figure(found: Recommendation) -> Child:
    """Score against cost; methods that no cheaper one matches are filled."""
    points = [point for point in found.points if math.isfinite(point.value)]
    if not points:
        return None
    metric = title(found.rule.metric)
    hint = "Filled: no method that costs as little scores as well. A backward counts two forwards."
    caption = tag("figcaption", tag("b", f"{metric} against cost"), f" · {hint}")
    return tag("figure", caption, _picture(points), _numbers(points, metric), class_="drawing")


def _numbers(points: Sequence[CostPoint], metric: str) -> Safe:
    names = ("method", "forward equivalents", metric, "interval", "on the front")
    head = tag("tr", [tag("th", name, scope="col") for name in names])
    rows = [tag("tr", tag("th", p.method, scope="row"), [tag("td", text) for text in _cells(p)]) for p in points]
    table = tag("table", tag("thead", head), tag("tbody", rows))
    return tag("details", tag("summary", "Numbers"), tag("div", table, class_="scroll"))


def _cells(point: CostPoint) -> list[str]:
    front = "yes" if point.on_front else "no"
    return [f"{point.cost:.3g}", number(point.value), interval(point.low, point.high), f"{front} ({point.support:.0%})"]


def _picture(points: Sequence[CostPoint]) -> Safe:
    low, high = (end(p.value for p in points) for end in (min, max))
    span, decades = (high - low) or 1.0, math.log10(max(p.cost for p in points)) or 1.0

    def x(cost: float) -> float:
        return round(_LEFT + math.log10(cost) / decades * (_WIDTH - _LEFT - _LABEL[0]), 1)

    def y(value: float) -> float:
        return round(20 + (high - value) / span * (_HEIGHT - 20), 1)

    places = [(x(p.cost), y(p.value)) for p in points]
    labels = apart([(left + 9, top) for left, top in places], *_LABEL)
    bottom = max(_HEIGHT, *(top for _, top in labels)) + 24
    marks = [_mark(*each) for each in zip(points, places, labels, strict=True)]
    ends = [tag("text", number(value), x=4, y=y(value) + 4, font_size=11) for value in (low, high)]
    costs = [tag("text", f"{cost:.3g}", x=x(cost), y=bottom, font_size=11) for cost in _ticks(points)]
    axis = tag("text", "forward equivalents of an example (log)", x=_LEFT, y=bottom + 16, font_size=11)
    about = "Score of the methods against what they cost"
    return tag("svg", ends, axis, costs, marks, viewBox=f"0 0 {_WIDTH} {bottom + 24}", role="img", aria_label=about)


def _mark(point: CostPoint, place: Place, label: Place) -> list[Safe]:
    (x, y), (left, top) = place, label
    fill = "currentColor" if point.on_front else "none"
    return [
        tag("circle", cx=x, cy=y, r=4, stroke="currentColor", fill=fill),
        tag("line", x1=x + 4, y1=y, x2=left - 1, y2=top, stroke="currentColor", stroke_width=0.5),
        tag("text", point.method, x=left, y=top + 4, font_size=11),
    ]


def apart(places: Sequence[Place], width: float, height: float) -> list[Place]:
    """Places for labels of a size, moved down where they would lie on each other."""
    taken: list[Place] = []
    found: dict[int, Place] = {}
    for index, (x, y) in sorted(enumerate(places), key=lambda each: each[1][1]):
        for left, top in taken:  # from above
            if abs(left - x) < width and abs(top - y) < height:
                y = top + height
        found[index] = (x, y)
        taken = sorted([*taken, (x, y)], key=lambda each: each[1])
    return [found[index] for index in range(len(places))]


def _ticks(points: Sequence[CostPoint]) -> list[float]:
    """1, 2, 5, 10, ... to the dearest method."""
    dearest = max(p.cost for p in points)
    decades = range(math.floor(math.log10(dearest)) + 1)
    return [tick for decade in decades for step in (1, 2, 5) if (tick := step * 10.0**decade) <= dearest]
