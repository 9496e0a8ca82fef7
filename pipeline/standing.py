"""Who is ahead: which metric leads, which methods are only controls, and which method is best."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from evaluation import METRICS

_LEADING = ("answer_recall", "aopc")  # the first of these that was measured names the best method
_CONTROL_METHODS = frozenset({"random", "position", "token_frequency", "punctuation", "embedding_norm"})
_UNDER_RANDOM_HEADS = re.compile(r"(?P<of>.+)_random(_?\d+|_\*)?")


@dataclass(frozen=True)
class Standing:
    """A method's value of a metric with its 95 % interval, or of a paired difference."""

    method: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    n_undefined: int = 0
    against: str | None = None

    @property
    def better(self) -> bool | None:
        """Whether a difference is an improvement; None where its interval holds 0."""
        if math.isnan(self.low) or math.isnan(self.high) or self.low <= 0 <= self.high:
            return None
        return (self.value > 0) == (higher_is_better(self.metric) is not False)


def higher_is_better(metric: str) -> bool | None:
    """Direction of a metric (`id` or `id@k`), None where it has none."""
    known = METRICS.get(metric.split("@")[0])
    return None if known is None else bool(known.higher_is_better)


def is_control(label: str, manifest: Mapping[str, Any]) -> bool:
    """Whether a label only serves as a yardstick: a chance method, or any method under a random mask."""
    entry = entry_of(label, manifest)
    spec = str((entry.get("params") or {}).get("head_mask", ""))
    masked = spec.startswith("random") or with_found_heads(label) is not None
    return entry.get("method", label) in _CONTROL_METHODS or masked


def with_found_heads(label: str) -> str | None:
    """`x` of `x_random_0`, and of the family `x_random_*`: the method that these are under random heads."""
    found = _UNDER_RANDOM_HEADS.fullmatch(label)
    return None if found is None else found["of"]


def entry_of(label: str, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a manifest says of a label; nothing where it says nothing."""
    return (manifest.get("methods") or {}).get(label) or {}


def standings(rows: Iterable[Mapping[str, Any]]) -> list[Standing]:
    """The rows of the `metrics` table."""
    return [Standing(**{field: _known(field, row[field]) for field in Standing.__dataclass_fields__}) for row in rows]


def _known(field: str, value: Any) -> Any:
    return math.nan if value is None and field in ("value", "low", "high") else value


def leading_metric(metrics: Iterable[str]) -> str | None:
    """The metric that ranks the methods."""
    measured = list(dict.fromkeys(metrics))
    leading = [metric for name in _LEADING for metric in measured if metric.split("@")[0] == name]
    return next(iter([*leading, *measured]), None)


def ranked(entries: Iterable[Standing], metric: str) -> list[Standing]:
    """Values of a metric, best first; undefined ones are left out."""
    sign = 1 if higher_is_better(metric) is False else -1
    values = [e for e in entries if e.metric == metric and e.against is None and not math.isnan(e.value)]
    return sorted(values, key=lambda entry: (sign * entry.value, entry.method))


def best(entries: Iterable[Standing], manifest: Mapping[str, Any]) -> Standing | None:
    """The best method that is no control, by the leading metric."""
    entries = list(entries)
    metric = leading_metric(entry.metric for entry in entries)
    order = ranked(entries, metric) if metric else []
    return next((entry for entry in order if not is_control(entry.method, manifest)), None)
