"""From curves and scores to values per example, and to means with intervals, controls and paired differences."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from attribution.conservation import SUMS
from evaluation import CURVES, METRICS, Curves, Interval, answer_recall, mean_interval, paired_difference
from pipeline.config import EvaluationConfig
from pipeline.microbatch import padded
from pipeline.schemas import METRICS as METRIC_COLUMNS
from pipeline.schemas import VALUES

Floats = NDArray[np.float64]
_NUMBERED = re.compile(r"_\d+$")


def values_table(
    labels: Sequence[str], examples: pa.Table, attributions: pa.Table, curves: pa.Table, config: EvaluationConfig
) -> pa.Table:
    """The `values` table: each metric of each method on each example, in the order of the examples."""
    parts = [
        part
        for label in labels
        for metric in config.metrics
        if (part := _values(label, metric, examples, attributions, curves, config)) is not None
    ]
    return pa.concat_tables(parts) if parts else VALUES.empty_table()


def without_failed(values: pa.Table, *attributions: pa.Table) -> pa.Table:
    """The same values, undefined where the scores that they are of are not finite."""
    failed = {
        (row["method"], row["item_id"])
        for table in attributions
        for row in table.select(["method", "item_id", "status"]).filter(pc.field("status") != "ok").to_pylist()
    }
    if not failed:
        return values
    rows = values.to_pylist()
    lost = [{**row, "value": math.nan} if (row["method"], row["item_id"]) in failed else row for row in rows]
    return pa.Table.from_pylist(lost, schema=VALUES)


def _values(
    label: str, metric: str, examples: pa.Table, attributions: pa.Table, curves: pa.Table, config: EvaluationConfig
) -> pa.Table | None:
    found = METRICS[metric]
    if not found.prepared:
        own = attributions.filter(pc.field("method") == label)
        return _FROM_SCORES[metric](label, own, examples, config) if own.num_rows else None
    families = {
        name: curves.filter((pc.field("method") == label) & (pc.field("curve") == family))
        for name, family in found.prepared.items()
    }
    if not all(table.num_rows for table in families.values()):
        return None
    values = found(**{name: curves_of(table) for name, table in families.items()}).double().numpy()
    items = next(iter(families.values()))["item_id"]
    return _table(label, metric, items, values, np.ones(len(values)))


def curves_of(table: pa.Table) -> Curves:
    """Rows of the curves table as tensors: of the target alone, C = 1, or of start and end, C = 2."""
    intact = _matrix(table["intact_logit"])
    ends = intact.shape[1]
    counts = _matrix(table["counts"])
    shape = (*counts.shape, ends)
    target = torch.zeros(len(counts), dtype=torch.long) if ends == 1 else _columns(table, "target", "target_end")
    return Curves(
        counts=counts.long(),
        levels=_matrix(table["levels"]),
        logits=_matrix(table["logits"]).view(shape),
        log_probabilities=_matrix(table["probabilities"]).log().view(shape),
        intact_logits=intact,
        intact_log_probabilities=_matrix(table["intact_probability"]).log(),
        target=target,
        operator=table["operator"][0].as_py(),
        keep=CURVES[table["curve"][0].as_py()].keep,
        squared_errors=_matrix(table["squared_errors"]) if "squared_errors" in table.column_names else None,
        **_decisions(table, ends),
    )


def _decisions(table: pa.Table, ends: int) -> dict[str, Any]:
    """Decisions as `Curves` has them; of classes less the target, which is 0 where there is one probability."""
    if "predicted" not in table.column_names or table["predicted"].null_count:
        return {}
    at, intact = _matrix(table["predicted"]).long(), _matrix(table["intact_predicted"]).long()
    if ends == 2:
        return {"predicted": at.view(len(at), -1, 2), "intact_predicted": intact}
    goal = _columns(table, "target")
    return {"predicted": at - goal, "intact_predicted": (intact - goal)[:, 0]}


def _columns(table: pa.Table, *names: str) -> Tensor:
    """Columns of whole numbers, [n, columns]."""
    return torch.from_numpy(np.stack([table[name].to_numpy() for name in names], 1).astype(np.int64))


def _matrix(column: pa.ChunkedArray) -> Tensor:
    """A column of lists of one length as [n, length]."""
    flat = pc.list_flatten(column).to_numpy()
    return torch.from_numpy(np.array(flat, dtype=np.float64).reshape(len(column), -1))


def _recall_values(label: str, own: pa.Table, examples: pa.Table, config: EvaluationConfig) -> pa.Table:
    rows = {row["item_id"]: row for row in examples.select(_RECALL_COLUMNS).to_pylist()}
    chosen = [rows[item] for item in own["item_id"].to_pylist()]
    length = max(len(row["special_tokens"]) for row in chosen)
    scores = torch.zeros(len(chosen), length, dtype=torch.float64)
    for i, values in enumerate(own["scores"].to_pylist()):
        scores[i, : len(values)] = torch.tensor(values, dtype=torch.float64)
    visible = padded([[1] * len(row["special_tokens"]) for row in chosen], length, 0)
    special = padded([row["special_tokens"] for row in chosen], length, 1)
    answers = [[-1 if row[end] is None else row[end] for end in ("answer_start", "answer_end")] for row in chosen]
    found = answer_recall(
        scores,
        torch.tensor(answers),
        k=config.recall_at,
        attention_mask=torch.from_numpy(visible),
        special_tokens_mask=torch.from_numpy(special),
        include_special=config.recall_special,
    )
    shares, sizes = (found.hits / found.sizes).numpy(), found.sizes.nan_to_num().numpy()
    return _table(label, f"answer_recall@{config.recall_at}", own["item_id"], shares, sizes)


def _conservation_values(label: str, own: pa.Table, examples: pa.Table, config: EvaluationConfig) -> pa.Table | None:
    """None where the method does not know what it conserves."""
    facts = [{fact["name"]: fact["value"] for fact in row or []} for row in own["facts"].to_pylist()]
    if not all("explained" in known for known in facts):
        return None
    sums = {name: torch.tensor([known[name] for known in facts], dtype=torch.float64) for name in SUMS}
    values = METRICS["conservation_error"](**sums).numpy()
    return _table(label, "conservation_error", own["item_id"], values, np.ones(len(values)))


_FROM_SCORES = {"answer_recall": _recall_values, "conservation_error": _conservation_values}
_RECALL_COLUMNS = ["item_id", "special_tokens", "answer_start", "answer_end"]


def _table(label: str, metric: str, items: pa.ChunkedArray, values: Floats, weights: Floats) -> pa.Table:
    n = len(values)
    finite = np.where(np.isfinite(values), values, np.nan)
    columns = {"item_id": items, "method": [label] * n, "metric": [metric] * n, "value": finite, "weight": weights}
    return pa.table(columns, schema=VALUES)


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
    }
    families = control_families(config.controls, columns)
    members = {member for family in families.values() for member in family}
    for label, (values, weights) in columns.items():
        yield label, None, mean_interval(values, weights, **options)
        for family, controls in families.items():
            masked = all(labels.get(control, False) for control in controls)
            if label in members or (masked and not labels.get(label, False)):
                continue
            against = np.mean([columns[control][0] for control in controls], axis=0)
            yield label, family, paired_difference(values, against, weights, **options)


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
