"""Which method a run recommends for its model and data: the verdict on its values, and what it costs to explain."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from attribution.methods.registry import METHODS
from evaluation.statistics import (
    Comparisons,
    CostPoint,
    OperatorAgreement,
    Rank,
    SliceFinding,
    ValueTable,
    compare_methods,
    cost_points,
    forward_equivalents,
    operator_agreement,
    rank_intervals,
    slice_findings,
)
from evaluation.verdict import Rule, Verdict, verdict
from pipeline.operators import other_operator
from pipeline.runs import Run
from pipeline.slices import run_slices
from pipeline.standing import entry_of, higher_is_better, is_control, leading_metric, with_found_heads

COSTS = ["method", "forwards", "backwards"]
SHARED = 1  # forward that all methods take together
TOLD = {
    "decided": "Use {method}: on {metric} it is better than every other method measured.",
    "equivalent": "Use {method}: on {metric} no other method is better by as much as matters.",
    "undecided": "The data cannot decide on {metric} between {group}.{more}",
    "not_above_control": "No method is recommended: {leader}, first on {metric}, is not shown to beat {control}.{more}",
    "below_control": "No method is recommended: {leader}, first on {metric}, is worse than {control}.",
}


@dataclass(frozen=True)
class Recommendation:
    """The verdict on a run, and what it rests on."""

    table: ValueTable
    rule: Rule
    compared: Comparisons
    verdict: Verdict
    slices: dict[tuple[str, str], list[SliceFinding]]  # of each (method, metric), worst first; none of equal examples
    operators: list[OperatorAgreement]  # of every two operators that the run perturbed with, under each metric

    @property
    def subject(self) -> str:
        """The method that is recommended, or else the leader."""
        return self.verdict.method or self.verdict.leader

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        return sentence(self.verdict)

    @property
    def places(self) -> list[Rank]:
        """The places that each method can have on the metric that decides, best first."""
        places = [rank for rank in rank_intervals(self.compared) if rank.metric == self.rule.metric]
        return sorted(places, key=lambda rank: (rank.best, rank.worst, rank.method))

    @property
    def candidates(self) -> list[str]:
        """The methods that are no controls."""
        return [name for name in self.table.methods if name not in self.rule.control_names]

    @property
    def points(self) -> list[CostPoint]:
        """Score against cost of the candidates whose cost is known, cheapest first."""
        own = self.table.only([self.rule.metric], self.candidates)
        return cost_points(own, self.rule.costs, samples=self.rule.samples, confidence=self.rule.confidence)[
            self.rule.metric
        ]


def sentence(found: Verdict, most: int | None = None) -> str:
    """A verdict in words, which name at most so many of the methods that it is undecided between."""
    more = f" About {found.n_more:,} more examples would tell." if found.n_more else ""
    about = {"method": found.method, "metric": found.metric, "leader": found.leader, "more": more}
    rivals = [f"the control {doubt.rival}" for doubt in found.doubts if doubt.kind == "control" and doubt.rival]
    shown = found.group if most is None or len(found.group) <= most + 1 else found.group[:most]
    left = len(found.group) - len(shown)
    group = _listed((*shown, *([f"{left} others"] if left else [])))
    return TOLD[found.status].format(**about, group=group, control=next(iter(rivals), "a control"))


def recommendation(run: Run, metric: str | None = None) -> Recommendation | None:
    """What a run recommends by `metric`, its leading one by default; None of fewer than two methods or examples."""
    values = run.table("values")
    if not values.num_rows:
        return None
    measured = values["metric"].unique().to_pylist()
    names = [name for name in measured if other_operator(name) is None]
    table = _table(values, names)
    deciding = metric or leading_metric(names)
    if deciding is None:
        return None
    rule = Rule(deciding, _controls(table, run.manifest), costs(run), anytime=bool(run.manifest.get("budget")))
    if not _comparable(table, rule):
        return None
    options: dict[str, Any] = {"samples": rule.samples, "confidence": rule.confidence, "seed": rule.seed}
    compared = compare_methods(table, **options, anytime=rule.anytime, planned=rule.planned)
    named = run_slices(run)
    slices = slice_findings(table, named, confidence=rule.confidence) if named else {}
    operators = _operators({_own_operator(run): table, **_under_others(values, measured)}, rule)
    reached = verdict(table, rule, compared=compared, operators=operators, slices=slices)
    return Recommendation(table, rule, compared, reached, slices, operators)


def verdict_so_far(values: pa.Table, manifest: Mapping[str, Any]) -> Verdict | None:
    """The verdict by the leading metric while examples are added; None of fewer than two methods or examples.

    manifest: what there is of it, the methods.
    """
    metric = leading_metric(values["metric"].unique().to_pylist())
    if metric is None:
        return None
    table = _table(values, [metric])
    rule = Rule(metric, _controls(table, manifest), anytime=True)
    return verdict(table, rule) if _comparable(table, rule) else None


def _controls(table: ValueTable, manifest: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """What each method is held against: chance, and, where it takes heads, random heads, its own if it has any."""
    controls = [label for label in table.methods if is_control(label, manifest)]
    random_heads = [label for label in controls if _takes_heads(label, manifest)]
    chance = [label for label in controls if label not in random_heads]

    def heads_for(label: str) -> list[str]:
        own = [control for control in random_heads if with_found_heads(control) == label]
        return (own or random_heads) if _takes_heads(label, manifest) else []

    return {label: (*chance, *heads_for(label)) for label in table.methods}


def _takes_heads(label: str, manifest: Mapping[str, Any]) -> bool:
    """Whether a label's method lets relevance through chosen heads alone, so that random heads are a control of it."""
    known = METHODS.get(entry_of(label, manifest).get("method", label))
    return known is not None and known.needs_heads


def _comparable(table: ValueTable, rule: Rule) -> bool:
    return len(table.items) > 1 and len(_measured(table, rule.metric) - rule.control_names) > 1


def _table(values: pa.Table, metrics: Sequence[str]) -> ValueTable:
    return ValueTable.from_arrow(values, {name: bool(higher_is_better(name)) for name in metrics})


def _under_others(values: pa.Table, measured: Sequence[str]) -> dict[str, ValueTable]:
    """The values under each other operator, by the names that metrics have under the run's own."""
    found: dict[str, list[str]] = {}
    for name in measured:
        if operator := other_operator(name):
            found.setdefault(operator, []).append(name)
    tables = {operator: _table(values, names) for operator, names in found.items()}
    return {
        operator: replace(table, metrics=tuple(name.partition("@")[0] for name in table.metrics))
        for operator, table in tables.items()
    }


def _own_operator(run: Run) -> str:
    """The operator of the run itself."""
    for name in ("curves", "removals"):
        if (used := run.table(name, ["operator"])).num_rows:
            return str(used["operator"][0].as_py())
    return str(run.manifest["name"])


def _operators(tables: Mapping[str, ValueTable], rule: Rule) -> list[OperatorAgreement]:
    """How the methods that are no controls are ranked under each two operators; none where there is one."""
    if len(tables) < 2:
        return []
    options: dict[str, Any] = {"samples": rule.samples, "confidence": rule.confidence, "seed": rule.seed}
    shared = set.intersection(*(set(table.metrics) for table in tables.values()))
    ranked = {name: _of_methods(table, shared, rule) for name, table in tables.items()}
    compared = {name: compare_methods(table, **options) for name, table in ranked.items()}
    return operator_agreement(ranked, compared, **options)


def _of_methods(table: ValueTable, metrics: Collection[str], rule: Rule) -> ValueTable:
    methods = [name for name in table.methods if name not in rule.control_names]
    return table.only([name for name in table.metrics if name in metrics], methods)


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
