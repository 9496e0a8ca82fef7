"""What methods gain over yardsticks that know nothing of the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from evaluation.statistics.comparisons import Comparisons, Difference


@dataclass(frozen=True)
class Lift:
    """A method against the control it does worst against; `above` says whether it beats it after Holm."""

    method: str
    metric: str
    control: str
    value: float  # positive: better than the control
    low: float
    high: float
    adjusted: float
    n: int
    n_undefined: int
    above: bool
    below: bool  # worse than that control after Holm


def lifts(comparisons: Comparisons, controls: Mapping[str, Iterable[str]] | Iterable[str]) -> list[Lift]:
    """The lift of each method under each metric over each of its controls' strongest.

    `controls` names those that hold for all methods, or those of each method: random heads for methods that take heads.
    Controls that were not measured do not count; a method without any has no lift.
    """
    own = controls if isinstance(controls, Mapping) else {method: list(controls) for method in comparisons.methods}
    every = {name for names in own.values() for name in names}
    return [
        lift
        for k, metric in enumerate(comparisons.metrics)
        for method in comparisons.methods
        if method not in every
        for lift in _strongest(
            comparisons, method, [c for c in own.get(method, ()) if c in comparisons.methods], k, metric
        )
    ]


def _strongest(comparisons: Comparisons, method: str, controls: list[str], k: int, metric: str) -> list[Lift]:
    found = [
        _lift(comparisons.difference(method, control, metric), comparisons.higher_is_better[k]) for control in controls
    ]
    known = [lift for lift in found if lift.n]
    return [min(known or found, key=lambda lift: (lift.value, lift.control))] if found else []


def _lift(difference: Difference, higher_is_better: bool) -> Lift:
    ends = (difference.value, difference.low, difference.high)
    value, low, high = ends if higher_is_better else (-ends[0], -ends[2], -ends[1])
    return Lift(
        difference.method,
        difference.metric,
        difference.rival,
        value,
        low,
        high,
        difference.adjusted,
        difference.n,
        difference.n_undefined,
        above=difference.better is True,
        below=difference.better is False,
    )
