"""Who leads, who is not told from the leader, and who differs from it by too little to matter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from attribution.errors import InputError
from evaluation.statistics.comparisons import Comparisons
from evaluation.statistics.controls import Lift, lifts
from evaluation.statistics.moments import Bools, Floats, Ints, moments, t_statistic
from evaluation.statistics.p_values import PLANNED, anytime_boundary, anytime_test, holm, t_boundary, t_test
from evaluation.statistics.power import POWER, examples_needed
from evaluation.statistics.values import ValueTable


@dataclass(frozen=True)
class Rule:
    """How a verdict is reached. One metric decides; the others only confirm it or raise doubts.

    `controls` as in `lifts`; `costs` in forward equivalents per example. Differences of the metric below `margin` do
    not matter; with 0, all do. `anytime`: the data were looked at while examples were added.
    """

    metric: str
    controls: Mapping[str, Sequence[str]] | Sequence[str] = ()
    costs: Mapping[str, float] = field(default_factory=dict)
    margin: float = 0.0
    confidence: float = 0.95
    power: float = POWER
    samples: int = 2000
    seed: int = 0
    anytime: bool = False
    planned: int = PLANNED

    @property
    def control_names(self) -> set[str]:
        """Every control."""
        lists = self.controls.values() if isinstance(self.controls, Mapping) else [self.controls]
        return {name for names in lists for name in names}

    def test(self, t: Floats, n: Ints) -> Floats:
        """Two-sided P of t statistics."""
        return anytime_test(t, n, self.planned) if self.anytime else t_test(t, n)

    def needed(self, difference: float, deviation: float, alpha: float) -> float:
        """Examples that show a difference; infinite where no number does."""
        boundary = partial(anytime_boundary, planned=self.planned) if self.anytime else t_boundary
        return float(examples_needed(difference, deviation, alpha=alpha, power=self.power, boundary=boundary))


@dataclass(frozen=True)
class Contest:
    """The methods under the rule's metric. `candidates` are those that have values and are no controls, best first.

    `open`: those not told from the leader, and about how many more examples would tell (None: no number would);
    `equal`: those that differ from it by less than the margin. `compared` has the P values of that metric adjusted
    for both questions.
    """

    table: ValueTable
    compared: Comparisons
    rule: Rule
    candidates: tuple[str, ...]
    unmeasured: tuple[str, ...]
    leader: str
    open: Mapping[str, int | None]
    equal: tuple[str, ...]
    lifts: Mapping[str, Lift]
    control_more: int | None  # the same for the leader and the control it is not told from

    @property
    def beaten(self) -> list[str]:
        """Those that are worse than the leader, and by as much as matters."""
        return [name for name in self.candidates if name not in (self.leader, *self.open, *self.equal)]

    @property
    def group(self) -> tuple[str, ...]:
        """The leader and those that are not beaten, best first."""
        return tuple(name for name in self.candidates if name not in self.beaten)

    @property
    def _as_control(self) -> bool:
        """Whether the leader is neither better nor worse than its strongest control."""
        lift = self.lifts.get(self.leader)
        return lift is not None and not lift.above and not lift.below

    @property
    def n_more(self) -> int | None:
        """About how many more examples would tell the leader from all others."""
        counts = [*self.open.values(), *([self.control_more] if self._as_control else [])]
        known = [count for count in counts if count is not None]
        return max(known) if known and len(known) == len(counts) else None


def hold_contest(table: ValueTable, compared: Comparisons, rule: Rule) -> Contest:
    """The contest of the methods that are no controls; InputError where none has a value."""
    k = table.metric(rule.metric)
    compared, equal = _within_margin(compared, rule, k)
    scores = table.signs[k] * moments(table.values[k], table.defined[k] * table.weights[k][:, None]).mean
    taking_part = [i for i, name in enumerate(table.methods) if name not in rule.control_names]
    order = sorted((i for i in taking_part if not np.isnan(scores[i])), key=lambda i: (-scores[i], table.methods[i]))
    if not order:
        raise InputError(f"metric={rule.metric} has no value for any method that is no control")
    leader = _leader(order, compared.better[k] & ~equal)
    alike = [i for i in order if i != leader and equal[leader, i]]
    unclear = [i for i in order if i not in (leader, *alike) and not compared.better[k, leader, i]]
    gains = {each.method: each for each in lifts(compared, rule.controls) if each.metric == rule.metric}
    own = gains.get(table.methods[leader])
    return Contest(
        table,
        compared,
        rule,
        candidates=tuple(table.methods[i] for i in order),
        unmeasured=tuple(table.methods[i] for i in taking_part if i not in order),
        leader=table.methods[leader],
        open={table.methods[i]: _more(compared, rule, k, leader, i) for i in unclear},
        equal=tuple(table.methods[i] for i in alike),
        lifts=gains,
        control_more=_more(compared, rule, k, leader, table.methods.index(own.control))
        if own and not own.above and not own.below
        else None,
    )


def _leader(order: Sequence[int], better: Bools) -> int:
    """The best mean among those that no candidate beats: where values are missing a pair may say otherwise."""
    unbeaten = [i for i in order if not better[order, i].any()]
    return (unbeaten or order)[0]


def _within_margin(compared: Comparisons, rule: Rule, k: int) -> tuple[Comparisons, Bools]:
    """The comparisons and which pairs [M, M] differ by less than the margin; one Holm family asks both questions."""
    size = len(compared.methods)
    if rule.margin <= 0:
        return compared, np.zeros((size, size), dtype=bool)
    upper = np.triu_indices(size, 1)
    room = rule.margin - np.abs(compared.value[k][upper])
    p = rule.test(t_statistic(np.maximum(room, 0), compared.error[k][upper]), compared.n[k][upper])
    joint = holm(np.concatenate([compared.p[k][upper], p]))
    different, equivalent = (_mirrored(half, upper, size) for half in np.split(joint, 2))
    adjusted = np.concatenate([compared.adjusted[:k], different[None], compared.adjusted[k + 1 :]])
    return replace(compared, adjusted=adjusted), equivalent <= 1 - compared.confidence


def _mirrored(pairs: Floats, upper: tuple[Ints, ...], size: int) -> Floats:
    full = np.full((size, size), np.nan)
    full[upper] = full.T[upper] = pairs
    return full


def _more(compared: Comparisons, rule: Rule, k: int, first: int, second: int) -> int | None:
    """About how many more examples tell two methods apart, or show that they differ by less than the margin."""
    n, size = int(compared.n[k, first, second]), len(compared.methods)
    if n < 2:
        return None
    questions = size * (size - 1) // 2 * (2 if rule.margin > 0 else 1)
    deviation, difference = compared.error[k, first, second] * n**0.5, abs(compared.value[k, first, second])
    gaps = [difference, rule.margin - difference]
    needed = min(rule.needed(gap, deviation, (1 - compared.confidence) / questions) for gap in gaps if gap >= 0)
    return math.ceil((needed - n) * compared.n_examples / n) if math.isfinite(needed) else None
