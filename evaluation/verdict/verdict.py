"""The verdict itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evaluation.statistics.comparisons import Comparisons, compare_methods
from evaluation.statistics.operators import OperatorAgreement
from evaluation.statistics.slices import SliceFinding
from evaluation.statistics.values import ValueTable
from evaluation.verdict.contest import Contest, Rule, hold_contest
from evaluation.verdict.remarks import DOUBTS, REASONS, Case, Remark

DECIDED, EQUIVALENT, UNDECIDED = "decided", "equivalent", "undecided"
NOT_ABOVE_CONTROL, BELOW_CONTROL = "not_above_control", "below_control"
CHEAPER = 0.5  # share of the leader's cost that an equivalent method may have at most to be taken in its place


@dataclass(frozen=True)
class Verdict:
    """What the data say.

    `status`: `decided`: the leader is better than all others. `equivalent`: than all but those that differ from it by
    less than the margin, of which a cheap one is taken. `undecided`: neither is shown. `not_above_control`: the leader
    is not shown to be better than its controls; `below_control`: it is worse than one.
    `method` is what is recommended, if anything; `leader` has the best mean; `group` holds the leader and all that are
    not shown to be worse, or not by as much as matters. `n_more` is about how many more examples would tell the leader
    from the others, None where none are needed or no number would do.
    """

    status: str
    method: str | None
    metric: str
    leader: str
    group: tuple[str, ...]
    reasons: tuple[Remark, ...]
    doubts: tuple[Remark, ...]
    n: int
    n_more: int | None

    @property
    def decided(self) -> bool:
        """Whether more examples are of no use."""
        return self.status in (DECIDED, EQUIVALENT, BELOW_CONTROL)


def verdict(
    table: ValueTable,
    rule: Rule,
    *,
    compared: Comparisons | None = None,
    operators: Sequence[OperatorAgreement] = (),
    slices: Mapping[tuple[str, str], Sequence[SliceFinding]] | None = None,
) -> Verdict:
    """The verdict on the methods of `table` that are no controls; InputError where none has a value.

    `compared`: the comparisons of `table`, where they are known already; `slices` as `slice_findings` gives them.
    """
    contest = hold_contest(table, compared or _compared(table, rule), rule)
    status = _status(contest)
    method = _chosen(contest) if status in (DECIDED, EQUIVALENT) else None
    subject = method or contest.leader
    case = Case(
        contest,
        subject,
        tuple(each for each in operators if each.metric == rule.metric),
        tuple((slices or {}).get((subject, rule.metric), ())),
    )
    return Verdict(
        status,
        method,
        rule.metric,
        contest.leader,
        contest.group,
        tuple(remark for reason in REASONS for remark in reason(case)),
        tuple(remark for doubt in DOUBTS for remark in doubt(case)),
        len(table.items),
        contest.n_more,
    )


def _compared(table: ValueTable, rule: Rule) -> Comparisons:
    return compare_methods(
        table,
        samples=rule.samples,
        confidence=rule.confidence,
        seed=rule.seed,
        anytime=rule.anytime,
        planned=rule.planned,
    )


def _status(contest: Contest) -> str:
    lift = contest.lifts.get(contest.leader)
    if lift and not lift.above:
        return BELOW_CONTROL if lift.below else NOT_ABOVE_CONTROL
    return UNDECIDED if contest.open else EQUIVALENT if contest.equal else DECIDED


def _chosen(contest: Contest) -> str:
    """The leader, or the cheapest of those that equal it where that saves enough and is above its controls."""
    costs, lifts = contest.rule.costs, contest.lifts
    known = [name for name in contest.equal if name in costs and (name not in lifts or lifts[name].above)]
    cheapest = min(known, key=lambda name: costs[name], default=contest.leader)
    saves = contest.leader in costs and costs.get(cheapest, 0) <= CHEAPER * costs[contest.leader]
    return cheapest if saves else contest.leader
