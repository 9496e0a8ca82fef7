"""What a metric is, and the one table of them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attribution.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Metric:
    """A value per example [B] and what it means; tables, arrows, sorting and docs follow from these fields.

    `needs` names the arguments of `compute`. `curve` is the curve family (`evaluation.faithfulness.CURVES`) it is read
    from. NaN marks an undefined value, which is counted and left out of means.
    """

    id: str
    formula: str
    higher_is_better: bool
    range: tuple[float, float]
    source: str
    needs: tuple[str, ...]
    compute: Callable[..., Tensor]
    curve: str | None = None

    def __call__(self, *args: Any, **needs: Any) -> Tensor:
        """The value of each example, [B]."""
        return self.compute(*args, **needs)


METRICS: dict[str, Metric] = {}


def register(metric: Metric) -> Metric:
    """Add a metric to the table under its id."""
    METRICS[metric.id] = metric
    return metric


def find_metric(metric: str | Metric) -> Metric:
    """The metric of that id; InputError naming all of them where there is none."""
    if isinstance(metric, Metric):
        return metric
    if metric not in METRICS:
        raise InputError(f"metric={metric} is not a metric; choose from {', '.join(sorted(METRICS))}")
    return METRICS[metric]


def evaluate(metric: str | Metric, **what_it_needs: Any) -> Tensor:
    """The values [B] of a metric given by id; InputError where something it needs is missing."""
    found = find_metric(metric)
    missing = [name for name in found.needs if name not in what_it_needs]
    if missing:
        raise InputError(f"metric={found.id} needs {', '.join(found.needs)}; not given: {', '.join(missing)}")
    return found(**what_it_needs)
