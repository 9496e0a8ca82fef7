"""What a metric is, and the one table of them all."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from attribution.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

CATEGORIES = ("faithfulness", "plausibility", "randomisation", "robustness", "complexity", "axiomatic", "ground_truth")


@dataclass(frozen=True)
class Metric:
    """A value per example [B] and what it means; tables, arrows, sorting and docs follow from these fields.

    `needs` names the arguments of `compute`. Those the engine prepares are the argument `curves`, of the family `curve`
    (`evaluation.faithfulness.CURVES`), and what `reads` says: for each argument a curve family or a removal set
    (`evaluation.removals.REMOVALS`). NaN marks an undefined value, which is counted and left out of means; `undefined`
    says when it is.
    """

    id: str
    formula: str
    higher_is_better: bool
    range: tuple[float, float]
    source: str
    needs: tuple[str, ...]
    compute: Callable[..., Tensor]
    curve: str | None = None
    reads: Mapping[str, str] = field(default_factory=dict)
    category: str = "faithfulness"
    undefined: str = "never"
    aliases: tuple[str, ...] = ()  # what other libraries call it
    tasks: tuple[str, ...] = ()  # of the models it is for; none: any

    def __call__(self, *args: Any, **needs: Any) -> Tensor:
        """The value of each example, [B]."""
        return self.compute(*args, **needs)

    @property
    def prepared(self) -> dict[str, str]:
        """What the engine prepares: argument -> curve family or removal set."""
        return dict(self.reads) if self.curve is None else {"curves": self.curve, **self.reads}


class Table(dict[str, Metric]):
    """Metrics by id; an alias finds its metric, too, but is not listed."""

    @property
    def aliases(self) -> dict[str, str]:
        """What other libraries call a metric -> its id."""
        return {alias: id for id, metric in self.items() for alias in metric.aliases}

    def __missing__(self, alias: str) -> Metric:
        return self[self.aliases[alias]]

    def __contains__(self, id: object) -> bool:
        return super().__contains__(id) or id in self.aliases

    def get(self, id: str, default: Any = None) -> Any:
        """The metric of that id or alias."""
        return super().get(self.aliases.get(id, id), default)


METRICS = Table()


def register(metric: Metric) -> Metric:
    """Add a metric to the table under its id."""
    METRICS[metric.id] = metric
    return metric


def find_metric(metric: str | Metric) -> Metric:
    """The metric of that id or alias; InputError with the nearest name and all others where there is none."""
    if isinstance(metric, Metric):
        return metric
    if metric not in METRICS:
        near = difflib.get_close_matches(metric, [*METRICS, *METRICS.aliases], n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise InputError(f"metric={metric} is not a metric.{hint} Choose from {', '.join(sorted(METRICS))}")
    return METRICS[metric]


def evaluate(metric: str | Metric, **what_it_needs: Any) -> Tensor:
    """The values [B] of a metric given by id; InputError where something it needs is missing."""
    found = find_metric(metric)
    missing = [name for name in found.needs if name not in what_it_needs]
    if missing:
        raise InputError(f"metric={found.id} needs {', '.join(found.needs)}; not given: {', '.join(missing)}")
    return found(**what_it_needs)
