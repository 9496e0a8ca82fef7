"""The reasons and doubts of a verdict: each a function of the case, listed in two tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from evaluation.statistics.comparisons import Difference
from evaluation.statistics.operators import OperatorAgreement
from evaluation.statistics.slices import SliceFinding, worst_slice
from evaluation.verdict.contest import Contest

UNDEFINED = 0.01  # share of examples without a value from which on it is a doubt
FEW = 30  # examples below which P values and intervals are rough


@dataclass(frozen=True)
class Remark:
    """A reason or a doubt: of what kind, in words, and the numbers behind it where it has some."""

    kind: str
    text: str
    method: str
    rival: str | None = None
    metric: str | None = None
    value: float | None = None  # with its interval: positive where `method` is better
    low: float | None = None
    high: float | None = None
    p: float | None = None  # adjusted for all comparisons
    n_more: int | None = None


@dataclass(frozen=True)
class Case:
    """All that is known when a verdict is given; `subject` is the method recommended, or else the leader."""

    contest: Contest
    subject: str
    operators: tuple[OperatorAgreement, ...] = ()
    slices: tuple[SliceFinding, ...] = ()

    @property
    def metric(self) -> str:
        """The one that decides."""
        return self.contest.rule.metric

    def remark(self, kind: str, text: str, rival: str, metric: str | None = None, n_more: int | None = None) -> Remark:
        """One about the subject and a rival; `{by}` in the text stands for their difference."""
        metric = metric or self.metric
        compared = self.contest.compared
        found = compared.difference(self.subject, rival, metric)
        value, low, high = _upwards(found, compared.higher_is_better[compared.metrics.index(metric)])
        by = f"{value:+.3g} [{low:+.3g}, {high:+.3g}]"
        return Remark(kind, text.format(by=by), self.subject, rival, metric, value, low, high, found.adjusted, n_more)


def _upwards(found: Difference, higher_is_better: bool) -> tuple[float, float, float]:
    """Value and interval so that positive is better."""
    if higher_is_better:
        return found.value, found.low, found.high
    return -found.value, -found.high, -found.low


def ahead(case: Case) -> Iterator[Remark]:
    """Whom it beats, by the closest of them."""
    better = [name for name in case.contest.candidates if _better(case, name, case.metric)]
    if better:
        others = f"{len(better)} of the {len(case.contest.candidates) - 1} other methods"
        text = f"{case.subject} is better than {others} on {case.metric}; the closest of them is {better[0]}: {{by}}"
        yield case.remark("ahead", text, better[0])


def equivalent(case: Case) -> Iterator[Remark]:
    """Whom it equals for all that matters."""
    leader, alike = case.contest.leader, case.contest.equal
    for name in alike if case.subject == leader else [leader]:
        text = f"{name} differs by less than {case.contest.rule.margin:g} of {case.metric}: {{by}}"
        yield case.remark("equivalent", text, name)


def cheaper(case: Case) -> Iterator[Remark]:
    """That it was taken in the leader's place for its cost."""
    costs, leader = case.contest.rule.costs, case.contest.leader
    if case.subject != leader:
        text = f"{case.subject} costs {costs[case.subject]:g} forwards, {leader} {costs[leader]:g}"
        yield case.remark("cheaper", text, leader)


def above_control(case: Case) -> Iterator[Remark]:
    """That it knows more than chance."""
    lift = case.contest.lifts.get(case.subject)
    if lift and lift.above:
        text = f"{case.subject} is better than {lift.control}, the strongest of its controls: {{by}}"
        yield case.remark("above_control", text, lift.control)


def confirmed(case: Case) -> Iterator[Remark]:
    """Other metrics on which no method is better."""
    for metric in case.contest.table.metrics:
        rivals = [name for name in case.contest.candidates if name != case.subject]
        beaten = [name for name in rivals if _better(case, name, metric)]
        if metric != case.metric and beaten and not any(_worse(case, name, metric) for name in rivals):
            text = f"on {metric} too no method is better, and {len(beaten)} of {len(rivals)} are worse"
            yield Remark("confirmed", text, case.subject, metric=metric)


def same_best(case: Case) -> Iterator[Remark]:
    """Operators under which it is the best as well."""
    firsts = {each.operator: each.best for each in case.operators}
    firsts |= {each.other: each.best_other for each in case.operators}
    names = [operator for operator, first in firsts.items() if first == case.subject]
    if len(names) > 1:
        yield Remark("same_best", f"{case.subject} is best under {', '.join(names)} alike", case.subject)


def undecided(case: Case) -> Iterator[Remark]:
    """Whom the data do not tell from the leader, and how many more examples might."""
    for name, more in case.contest.open.items():
        text = f"{case.contest.leader} and {name} are not told apart on {case.metric}, {{by}}{_alone(case, name)}: "
        yield case.remark("undecided", text + _outlook(case, name, more), name, n_more=more)


def _alone(case: Case, rival: str) -> str:
    """Said where the interval of a pair is off zero, and what is asked of the smallest of all pairs' P is not met."""
    found = case.contest.compared.difference(case.subject, rival, case.metric)
    if found.low <= 0 <= found.high:
        return ""
    return " of this pair by itself, not enough for the smallest of all pairs (Holm)"


def control(case: Case) -> Iterator[Remark]:
    """That it may know no more than chance."""
    lift = case.contest.lifts.get(case.subject)
    if lift is None:
        yield Remark("no_control", f"{case.subject} was compared with no control", case.subject, metric=case.metric)
    elif lift.below:
        yield case.remark("control", f"{case.subject} is worse than the control {lift.control}: {{by}}", lift.control)
    elif not lift.above:
        more = case.contest.control_more
        text = f"{case.subject} is not shown to be better than the control {lift.control}, {{by}}: "
        yield case.remark("control", text + _outlook(case, lift.control, more), lift.control, n_more=more)


def _outlook(case: Case, rival: str, more: int | None) -> str:
    if more is not None:
        return f"about {more} more examples are needed"
    known = case.contest.compared.difference(case.subject, rival, case.metric).n > 1
    return "no number of examples is likely to tell" if known else "too few examples have both"


def contradicted(case: Case) -> Iterator[Remark]:
    """Other metrics that prefer another method, and that method."""
    for metric in case.contest.table.metrics:
        better = [name for name in case.contest.candidates if _worse(case, name, metric)]
        if metric != case.metric and better:
            names = ", ".join(better[:3]) + (" and others" if len(better) > 3 else "")
            text = f"{metric} prefers {names}; {case.subject} against {better[0]}: {{by}}"
            yield case.remark("contradicted", text, better[0], metric)


def other_operator(case: Case) -> Iterator[Remark]:
    """Operators under which another method is the best, or a decided order turns round."""
    for each in case.operators:
        turned = [pair for pair in each.reversals if case.subject in pair]
        if case.subject == each.best != each.best_other or case.subject == each.best_other != each.best or turned:
            text = (
                f"{_firsts(each)}{_turned(each, turned)}; the rankings agree by "
                f"tau {each.tau:.2f} [{each.low:.2f}, {each.high:.2f}]"
            )
            yield Remark("operator", text, case.subject, value=each.tau, low=each.low, high=each.high)


def _firsts(each: OperatorAgreement) -> str:
    if each.best == each.best_other:
        return f"{each.operator} and {each.other} put {each.best} first"
    return f"{each.operator} puts {each.best} first, {each.other} {each.best_other}"


def _turned(each: OperatorAgreement, pairs: Sequence[tuple[str, str]]) -> str:
    """The first pair of methods whose decided order turns round, and how many more there are."""
    if not pairs:
        return ""
    more = f" (and {len(pairs) - 1} more)" if len(pairs) > 1 else ""
    ahead, behind = pairs[0]
    return f"; {ahead} is ahead of {behind} under {each.operator}, behind under {each.other}{more}"


def weak_slice(case: Case) -> Iterator[Remark]:
    """Where it does worst, if anywhere after correction."""
    worst = worst_slice(case.slices)
    if worst:
        text = (
            f"{case.subject} does worst where {worst.slice}: {worst.metric} {worst.inside:.3g} against "
            f"{worst.outside:.3g} elsewhere (n = {worst.n})"
        )
        numbers = (worst.difference, worst.low, worst.high, worst.adjusted)
        yield Remark("slice", text, case.subject, None, worst.metric, *numbers)


def undefined(case: Case) -> Iterator[Remark]:
    """Values that are missing, and methods without any."""
    table, k = case.contest.table, case.contest.table.metric(case.metric)
    missing = int((~table.defined[k, :, table.methods.index(case.subject)]).sum())
    if missing > UNDEFINED * len(table.items):
        text = f"{case.metric} of {case.subject} is undefined on {missing} of {len(table.items)} examples"
        yield Remark("undefined", text, case.subject, metric=case.metric, value=missing / len(table.items))
    for name in case.contest.unmeasured:
        yield Remark("unmeasured", f"{name} has no value of {case.metric} at all", name, metric=case.metric)


def rough(case: Case) -> Iterator[Remark]:
    """Too few examples, or differences too skewed, for P values to be near what they say."""
    compared = case.contest.compared
    rivals = [name for name in case.contest.candidates if name != case.subject]
    found = [compared.difference(case.subject, name, case.metric) for name in rivals]
    few, skewed = [each for each in found if each.n < FEW], [each for each in found if each.skewed]
    if few:
        text = f"{few[0].n} examples are few: P values and intervals are rough"
        yield case.remark("few", text, few[0].rival)
    if skewed:
        text = (
            f"the differences from {len(skewed)} methods are so skewed that P values are rough, {skewed[0].rival} first"
        )
        yield case.remark("skewed", text, skewed[0].rival)


REASONS: tuple[Callable[[Case], Iterator[Remark]], ...] = (
    ahead,
    equivalent,
    cheaper,
    above_control,
    confirmed,
    same_best,
)
DOUBTS: tuple[Callable[[Case], Iterator[Remark]], ...] = (
    undecided,
    control,
    contradicted,
    other_operator,
    weak_slice,
    undefined,
    rough,
)


def _better(case: Case, rival: str, metric: str) -> bool:
    """Whether the subject is better than the rival, after Holm."""
    return rival != case.subject and case.contest.compared.difference(case.subject, rival, metric).better is True


def _worse(case: Case, rival: str, metric: str) -> bool:
    return rival != case.subject and case.contest.compared.difference(case.subject, rival, metric).better is False
