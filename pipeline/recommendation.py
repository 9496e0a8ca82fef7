"""Which method a run recommends for its model and data: the verdict on its values, and what it costs to explain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from attribution.methods.registry import METHODS
from evaluation.statistics import (
    Comparisons,
    CostPoint,
    Rank,
    SliceFinding,
    ValueTable,
    compare_methods,
    cost_points,
    forward_equivalents,
    rank_intervals,
    slice_findings,
)
from evaluation.verdict import Rule, Verdict, verdict
from pipeline.runs import Run
from pipeline.slices import run_slices
from pipeline.standing import higher_is_better, is_control, leading_metric

COSTS = ["method", "forwards", "backwards"]
SHARED = 1  # forward that all methods take together
TOLD = {
    "decided": "Use {method}: on {metric} it is better than every other method measured.",
    "equivalent": "Use {method}: on {metric} no other method is better by as much as matters.",
    "undecided": "The data cannot decide on {metric} between {group}.{more}",
    "not_above_control": "No method is recommended: {leader}, first on {metric}, is not shown to beat a control.{more}",
    "below_control": "No method is recommended: {leader}, first on {metric}, is worse than a control.",
}


@dataclass(frozen=True)
class Recommendation:
    """The verdict on a run, and what it rests on."""

    table: ValueTable
    rule: Rule
    compared: Comparisons
    verdict: Verdict
    slices: dict[tuple[str, str], list[SliceFinding]]  # of each (method, metric), worst first; none of equal examples

    @property
    def subject(self) -> str:
        """The method that is recommended, or else the leader."""
        return self.verdict.method or self.verdict.leader

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        found = self.verdict
        more = f" About {found.n_more:,} more examples would tell." if found.n_more else ""
        about = {"method": found.method, "metric": found.metric, "leader": found.leader, "more": more}
        return TOLD[found.status].format(**about, group=_listed(found.group))

    @property
    def places(self) -> list[Rank]:
        """The places that each method can have on the metric that decides, best first."""
        places = [rank for rank in rank_intervals(self.compared) if rank.metric == self.rule.metric]
        return sorted(places, key=lambda rank: (rank.best, rank.worst, rank.method))

    @property
    def points(self) -> list[CostPoint]:
        """Score against cost of the methods whose cost is known, cheapest first."""
        own = self.table.only(metrics=[self.rule.metric])
        return cost_points(own, self.rule.costs, samples=self.rule.samples, confidence=self.rule.confidence)[
            self.rule.metric
        ]


def recommendation(run: Run, metric: str | None = None) -> Recommendation | None:
    """What a run recommends by `metric`, its leading one by default; None of fewer than two methods or examples."""
    values = run.table("values")
    if not values.num_rows:
        return None
    names = values["metric"].unique().to_pylist()
    table = ValueTable.from_arrow(values, {name: bool(higher_is_better(name)) for name in names})
    deciding = metric or leading_metric(names)
    controls = tuple(label for label in table.methods if is_control(label, run.manifest))
    if deciding is None or len(table.items) < 2 or len(_measured(table, deciding) - set(controls)) < 2:
        return None
    rule = Rule(deciding, controls, costs(run))
    compared = compare_methods(table, samples=rule.samples, confidence=rule.confidence, seed=rule.seed)
    named = run_slices(run)
    slices = slice_findings(table, named, confidence=rule.confidence) if named else {}
    return Recommendation(table, rule, compared, verdict(table, rule, compared=compared, slices=slices), slices)


def costs(run: Run) -> dict[str, float]:
    """Forward equivalents of each method for an example, that of the forward all methods share included."""
    return dict(_costs(run))


def _costs(run: Run) -> Iterator[tuple[str, float]]:
    spent = run.table("attributions", COSTS).group_by("method").aggregate([("forwards", "mean"), ("backwards", "mean")])
    for row in spent.to_pylist():
        entry = (run.manifest.get("methods") or {}).get(row["method"]) or {}
        known = METHODS.get(entry.get("method", row["method"]))
        if known is not None:
            backwards = known.backwards if row["backwards_mean"] is None else row["backwards_mean"]
            yield row["method"], forward_equivalents(SHARED + (row["forwards_mean"] or 0), backwards)


def _measured(table: ValueTable, metric: str) -> set[str]:
    defined = table.defined[table.metric(metric)].any(0)
    return {name for name, there in zip(table.methods, defined, strict=True) if there}


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
