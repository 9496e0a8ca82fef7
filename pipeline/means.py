"""From values per example to means with intervals, and to paired differences from controls."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from evaluation import Interval, mean_interval, paired_difference
from pipeline.config import EvaluationConfig
from pipeline.schemas import METRICS as METRIC_COLUMNS
from pipeline.standing import with_found_heads

Floats = NDArray[np.float64]
_NUMBERED = re.compile(r"_\d+$")


def metrics_table(values: pa.Table, labels: Mapping[str, bool], config: EvaluationConfig) -> pa.Table:
    """The `metrics` table. `labels` says of each method whether it takes a head mask, which decides its controls."""
    rows = [
        {"method": method, "metric": metric, "against": against, **found._asdict()}
        for metric in values["metric"].unique().to_pylist()
        for method, against, found in _intervals(_by_method(values, metric), labels, config)
    ]
    return pa.Table.from_pylist(rows, schema=METRIC_COLUMNS)


def _by_method(values: pa.Table, metric: str) -> dict[str, dict[str, tuple[float, float]]]:
    """Value and weight of each item, by method."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for row in values.filter(pc.field("metric") == metric).to_pylist():
        found.setdefault(row["method"], {})[row["item_id"]] = (row["value"], row["weight"])
    return found


def _intervals(
    measured: Mapping[str, Mapping[str, tuple[float, float]]], labels: Mapping[str, bool], config: EvaluationConfig
) -> Iterator[tuple[str, str | None, Interval]]:
    items = list(dict.fromkeys(item for values in measured.values() for item in values))
    columns = {label: _column(values, items) for label, values in measured.items()}
    options: dict[str, Any] = {
        "samples": config.bootstrap_samples,
        "confidence": config.confidence,
        "seed": config.seed,
        "anytime": config.budget is not None,
    }
    families = control_families(config.controls, columns)
    members = {member for family in families.values() for member in family}
    for label, (values, weights) in columns.items():
        yield label, None, mean_interval(values, weights, **options)
        for family, controls in families.items():
            masked = all(labels.get(control, False) for control in controls)
            foreign = config.own_controls > 0 and _of_another(family, label)
            if label in members or foreign or (masked and not labels.get(label, False)):
                continue
            against = np.mean([columns[control][0] for control in controls], axis=0)
            yield label, family, paired_difference(values, against, weights, **options)


def _of_another(family: str, label: str) -> bool:
    """Whether numbered controls are those of another method."""
    return family.endswith("_*") and with_found_heads(family) not in (None, label)


def _column(values: Mapping[str, tuple[float, float]], items: Sequence[str]) -> tuple[Floats, Floats]:
    pairs = np.array([values.get(item, (np.nan, 0.0)) for item in items], dtype=np.float64)
    return pairs[:, 0], pairs[:, 1]


def control_families(controls: Sequence[str], measured: Mapping[str, Any]) -> dict[str, list[str]]:
    """The controls that were measured; numbered ones (`x_0`, `x_1`) together as `x_*`, whose mean is compared with."""
    families: dict[str, list[str]] = {}
    for label in controls:
        if label in measured:
            families.setdefault(_NUMBERED.sub("_*", label), []).append(label)
    return families
