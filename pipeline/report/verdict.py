"""The verdict of a run: what it recommends and why, who wins against whom, ranks, and what a score costs."""

from __future__ import annotations

from collections.abc import Iterator

from attribution.errors import InputError
from evaluation.statistics import (
    OperatorAgreement,
    SliceFinding,
    critical_difference_within,
    win_matrix,
    worst_slice,
)
from pipeline.recommendation import Recommendation
from pipeline.report.cost_figure import cost_figure
from pipeline.report.finding import title
from pipeline.report.html import Child, Safe, interval, join, number, signed, tag
from pipeline.report.rank_figure import rank_figure


def verdict_section(found: Recommendation | None) -> Child:
    """The section; None where there is nothing to compare."""
    if found is None:
        return None
    return [
        tag("p", found.sentence, class_="finding more"),
        _remarks(found),
        _wins(found),
        _ranks(found),
        cost_figure(found),
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
    order = [rank.method for rank in found.places if rank.method in found.candidates]
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
        own = found.table.only(methods=found.candidates)
        ranks = critical_difference_within(own, found.rule.metric, confidence=found.rule.confidence)
    except InputError:
        return None
    return rank_figure(ranks, "examples")
