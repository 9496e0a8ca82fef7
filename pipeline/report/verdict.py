"""The verdict of a run: what it recommends and why, who wins against whom, ranks, and what a score costs."""

from __future__ import annotations

import math
from collections.abc import Iterator

from attribution.errors import InputError
from evaluation.statistics import (
    CostPoint,
    CriticalDifference,
    OperatorAgreement,
    SliceFinding,
    critical_difference_within,
    win_matrix,
    worst_slice,
)
from pipeline.recommendation import Recommendation
from pipeline.report.finding import title
from pipeline.report.html import Child, Safe, interval, join, number, signed, tag

_WIDTH, _ROW, _SIDE = 680, 18, 150


def verdict_section(found: Recommendation | None) -> Child:
    """The section; None where there is nothing to compare."""
    if found is None:
        return None
    return [
        tag("p", found.sentence, class_="finding more"),
        _remarks(found),
        _wins(found),
        _ranks(found),
        _pareto(found),
        _operators(found),
        _slices(found),
    ]


def _remarks(found: Recommendation) -> Iterator[Child]:
    for heading, remarks in (("Because", found.verdict.reasons), ("But", found.verdict.doubts)):
        if remarks:
            yield tag("h3", heading)
            yield tag("ul", [tag("li", remark.text) for remark in remarks])


def _operators(found: Recommendation) -> Child:
    """Whether the order of the methods survives another operator; None where the run has one."""
    pairs = [each for each in found.operators if each.metric == found.rule.metric]
    if not pairs:
        return None
    hint = (
        "Kendall's tau between the rankings under two operators on the examples that have both, controls left out; the "
        "ceiling is what new examples alone would leave of it."
    )
    names = ("operators", "tau", "ceiling", "best under each", "turned round", "n")
    head = tag("tr", [tag("th", name, scope="col") for name in names])
    table = tag("table", tag("thead", head), tag("tbody", map(_agreement, pairs)))
    return tag(
        "details",
        tag("summary", "Under other operators"),
        tag("p", hint, class_="hint"),
        tag("div", table, class_="scroll"),
        open=True,
    )


def _agreement(each: OperatorAgreement) -> Safe:
    turned = "; ".join(f"{ahead} before {behind}" for ahead, behind in each.reversals) or "none"
    tau = join(number(each.tau, 2), tag("small", interval(each.low, each.high, 2)))
    cells = (tau, number(each.ceiling, 2), f"{each.best}, {each.best_other}", turned, str(each.n))
    return tag("tr", tag("th", f"{each.operator}, {each.other}", scope="row"), [tag("td", cell) for cell in cells])


def _slices(found: Recommendation) -> Child:
    """The method in question on parts of the examples, worst first; None where there are no parts."""
    findings = found.slices.get((found.subject, found.rule.metric), [])
    if not findings:
        return None
    hint = (
        "Means on parts of the examples and on all others; differences have intervals that hold for all parts at once. "
        "Parts of fewer than 10 examples are not judged."
    )
    names = ("slice", "there", "elsewhere", "difference", "n")
    head = tag("tr", [tag("th", name, scope="col") for name in names])
    worst = worst_slice(findings)
    table = tag("table", tag("thead", head), tag("tbody", [_slice(each, each is worst) for each in findings]))
    summary = tag(
        "summary", f"Where {found.subject} does worse: ", worst.slice if worst else "nowhere, as far as shown"
    )
    return tag("details", summary, tag("p", hint, class_="hint"), tag("div", table, class_="scroll"))


def _slice(finding: SliceFinding, worst: bool) -> Safe:
    mark = [" ", tag("span", "worst", class_="tag")] if worst else None
    difference = join(signed(finding.difference), tag("small", interval(finding.low, finding.high)))
    cells = (number(finding.inside), number(finding.outside), difference, str(finding.n))
    return tag("tr", tag("th", finding.slice, mark, scope="row"), [tag("td", cell) for cell in cells])


def _wins(found: Recommendation) -> Safe:
    """On what share of the examples the row is better than the column, ties halved."""
    metric = found.rule.metric
    order = [rank.method for rank in found.places]
    wins = win_matrix(found.table.only(methods=order), metric)
    head = tag("tr", tag("th", title(metric)), [tag("th", name, scope="col") for name in order])
    rows = [
        tag("tr", tag("th", name, scope="row"), [tag("td", number(share, 2)) for share in shares])
        for name, shares in zip(order, wins.share.tolist(), strict=True)
    ]
    hint = "Share of the examples on which the row is better than the column; a tie counts half."
    table = tag("table", tag("thead", head), tag("tbody", rows))
    return tag(
        "details", tag("summary", "Win matrix"), tag("p", hint, class_="hint"), tag("div", table, class_="scroll")
    )


def _ranks(found: Recommendation) -> Child:
    """The critical-difference picture; None where no example has all methods."""
    try:
        ranks = critical_difference_within(found.table, found.rule.metric, confidence=found.rule.confidence)
    except InputError:
        return None
    return rank_figure(ranks, "examples")


def rank_figure(ranks: CriticalDifference, over: str) -> Safe:
    """Mean ranks over so many examples, or runs, with the critical difference."""
    hint = (
        f"Mean rank over {ranks.n} {over}, 1 being the best; a bar joins methods closer than the critical difference "
        f"of {ranks.difference:.2f} (Nemenyi)."
    )
    return tag("figure", tag("figcaption", tag("b", "Critical difference"), f" · {hint}"), _rank_picture(ranks))


def _rank_picture(ranks: CriticalDifference) -> Safe:
    size, bars = len(ranks.methods), len(ranks.groups)
    top = 24 + 8 * bars
    height = top + _ROW * size + 6

    def x(rank: float) -> float:
        return round(_SIDE + (rank - 1) / max(1, size - 1) * (_WIDTH - _SIDE - 20), 1)

    ticks = [tag("text", str(rank), x=x(rank), y=12, text_anchor="middle", font_size=11) for rank in range(1, size + 1)]
    place = dict(zip(ranks.methods, ranks.mean_ranks, strict=True))
    joined = [
        _line(x(place[group[0]]) - 3, 20 + 8 * row, x(place[group[-1]]) + 3, 20 + 8 * row, 4)
        for row, group in enumerate(ranks.groups)
    ]
    names = [
        [
            tag("text", f"{name} {rank:.2f}", x=4, y=top + _ROW * row + 12, font_size=12),
            _line(_SIDE - 4, top + _ROW * row + 8, x(rank), top + _ROW * row + 8, 0.5),
            _line(x(rank), 16, x(rank), top + _ROW * row + 8, 0.5),
        ]
        for row, (name, rank) in enumerate(place.items())
    ]
    about = "Mean ranks of the methods with the critical difference"
    return tag("svg", ticks, joined, names, viewBox=f"0 0 {_WIDTH} {height}", role="img", aria_label=about)


def _line(x1: float, y1: float, x2: float, y2: float, width: float) -> Safe:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke="currentColor", stroke_width=width)


def _pareto(found: Recommendation) -> Child:
    """Score against cost; methods that no cheaper one matches are filled."""
    points = [point for point in found.points if math.isfinite(point.value)]
    if not points:
        return None
    hint = "Filled: no method that costs as little scores as well. A backward counts two forwards."
    caption = tag("figcaption", tag("b", f"{title(found.rule.metric)} against cost"), f" · {hint}")
    rows = [tag("tr", tag("th", p.method, scope="row"), [tag("td", text) for text in _numbers(p)]) for p in points]
    names = ("method", "forward equivalents", title(found.rule.metric), "interval", "on the front")
    head = tag("tr", [tag("th", name, scope="col") for name in names])
    table = tag("details", tag("summary", "Numbers"), tag("table", tag("thead", head), tag("tbody", rows)))
    return tag("figure", caption, _cost_picture(points), table)


def _numbers(point: CostPoint) -> list[str]:
    front = "yes" if point.on_front else "no"
    return [f"{point.cost:.3g}", number(point.value), interval(point.low, point.high), f"{front} ({point.support:.0%})"]


def _cost_picture(points: list[CostPoint]) -> Safe:
    height, left = 300, 50
    low, high = (end(p.value for p in points) for end in (min, max))
    span, decades = (high - low) or 1.0, math.log10(max(p.cost for p in points)) or 1.0

    def x(cost: float) -> float:
        return round(left + math.log10(cost) / decades * (_WIDTH - left - 150), 1)

    def y(value: float) -> float:
        return round(20 + (high - value) / span * (height - 60), 1)

    marks = [
        [
            tag(
                "circle", cx=x(p.cost), cy=y(p.value), r=4, stroke="currentColor",
                fill="currentColor" if p.on_front else "none",
            ),
            tag("text", p.method, x=x(p.cost) + 7, y=y(p.value) + 4, font_size=11),
        ]
        for p in points
    ]  # fmt: skip
    ends = [tag("text", number(value), x=4, y=y(value) + 4, font_size=11) for value in (low, high)]
    axis = tag("text", "forward equivalents of an example (log)", x=left, y=height - 6, font_size=11)
    costs = [tag("text", f"{cost:.3g}", x=x(cost), y=height - 22, font_size=11) for cost in _ticks(points)]
    about = "Score of the methods against what they cost"
    return tag("svg", ends, axis, costs, marks, viewBox=f"0 0 {_WIDTH} {height}", role="img", aria_label=about)


def _ticks(points: list[CostPoint]) -> list[float]:
    """Powers of ten from 1 to the dearest method."""
    return [10.0**power for power in range(math.floor(math.log10(max(p.cost for p in points))) + 1)]
