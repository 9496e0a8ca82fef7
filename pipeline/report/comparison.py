"""The verdict page of `headlight compare`: verdicts, mean ranks over runs, and where methods differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evaluation.statistics import CriticalDifference
from pipeline.recommendation import Recommendation
from pipeline.report.disagreement import disagreement
from pipeline.report.html import Child, join, tag
from pipeline.report.page import document
from pipeline.report.rank_figure import rank_figure
from pipeline.report.texts import Texts
from pipeline.report.verdict import verdict_section
from pipeline.runs import Run

NOTHING = "Nothing to compare: a verdict needs two methods that are no controls, and two examples."


def comparison_page(found: Sequence[tuple[Run, Recommendation | None]], across: CriticalDifference | None) -> str:
    """The page; it shows no more texts of a run than its report does."""
    head = tag("header", tag("p", "Headlight verdict", class_="eyebrow"), tag("h1", _names(found)))
    ranks = tag("section", tag("h2", "Over all runs"), rank_figure(across, "runs")) if across else None
    sections = [tag("section", list(_section(run, each))) for run, each in found]
    return document(f"{_names(found)} · Headlight", join(head, tag("main", ranks, sections)))


def _names(found: Sequence[tuple[Run, Recommendation | None]]) -> str:
    return ", ".join(str(run.manifest["name"]) for run, _ in found)


def _section(run: Run, found: Recommendation | None) -> Iterator[Child]:
    model, data = run.manifest["model"]["name"], run.manifest["dataset"]
    yield tag("h2", str(run.manifest["name"]))
    yield tag("p", f"model {model}, data {data['name']}, {data['n']:,} examples", class_="hint")
    yield verdict_section(found) or tag("p", NOTHING)
    if found is not None and (differ := _disagreement(run, found)):
        yield [tag("h3", "Where methods differ"), differ]


def _disagreement(run: Run, found: Recommendation) -> Child:
    data, shown = Texts.of(run, found.rule.metric), run.config.get("report") or {}
    return disagreement(data, found.candidates, data.showable(shown.get("texts", "full"), shown.get("examples", 0)))
