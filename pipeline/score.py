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
from pipeline.collect import in_order_of
from pipeline.config import EvaluationConfig
from pipeline.microbatch import padded
from pipeline.schemas import METRICS as METRIC_COLUMNS
from pipeline.schemas import VALUES

Floats = NDArray[np.float64]
_NUMBERED = re.compile(r"_\d+$")
_OWN = re.compile(r"(?P<of>.+)_random_\*")  # a family of controls of one method


def values_table(
    labels: Sequence[str],
    examples: pa.Table,
    attributions: pa.Table,
    curves: pa.Table,
    config: EvaluationConfig,
    references: Sequence[str] = (),
) -> pa.Table:
    """The `values` table: each metric of each method on each example, in the order of the examples.

    references: labels whose scores are what blanking each token out changes.
    """
    parts = [
        part
        for label in labels
        for metric in config.metrics
        for part in _values(label, metric, examples, attributions, curves, config, references)
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
    label: str,
    metric: str,
    examples: pa.Table,
    attributions: pa.Table,
    curves: pa.Table,
    config: EvaluationConfig,
    references: Sequence[str],
) -> Iterator[pa.Table]:
    found = METRICS[metric]
    if not found.prepared:
        own = attributions.filter(pc.field("method") == label)
        if own.num_rows and "cues" in METRICS[metric].needs:
            yield _cue_values(label, metric, own, examples)
        elif own.num_rows and "importance" in METRICS[metric].needs:
            for reference in references if label not in references else ():
                known = attributions.filter(pc.field("method") == reference)
                yield _blank_out_values(label, metric, reference, own, known, examples)
        elif own.num_rows and (table := _FROM_SCORES[metric](label, own, examples, config)) is not None:
            yield table
        return
    families = {
        name: curves.filter((pc.field("method") == label) & (pc.field("curve") == family))
        for name, family in found.prepared.items()
    }
    if all(table.num_rows for table in families.values()):
        values = found(**{name: curves_of(table) for name, table in families.items()}).double().numpy()
        items = next(iter(families.values()))["item_id"]
        yield _table(label, metric, items, values, np.ones(len(values)))


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
    scores = _scores(own)
    length = scores.shape[1]
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


def _cue_values(label: str, metric: str, own: pa.Table, examples: pa.Table) -> pa.Table:
    cues, visible = _of_tokens(own, examples, "rationale")
    values = METRICS[metric](_scores(own), cues, visible).numpy()
    return _table(label, metric, own["item_id"], values, np.ones(len(values)))


def _blank_out_values(
    label: str, metric: str, reference: str, own: pa.Table, known: pa.Table, examples: pa.Table
) -> pa.Table:
    """Against one reference, on the examples that both have."""
    both = sorted(set(own["item_id"].to_pylist()) & set(known["item_id"].to_pylist()))
    own, known = (in_order_of(pa.table({"item_id": both}), table) for table in (own, known))
    special, visible = _of_tokens(own, examples, "special_tokens")
    values = METRICS[metric](_scores(own), _scores(known), ~special & visible).numpy()
    return _table(label, f"{metric}@{reference}", own["item_id"], values, np.ones(len(values)))


def _scores(own: pa.Table) -> Tensor:
    """[n, N] of rows of the attributions table; padding is 0."""
    rows = own["scores"].to_pylist()
    scores = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.float64)
    for i, values in enumerate(rows):
        scores[i, : len(values)] = torch.tensor(values, dtype=torch.float64)
    return scores


def _of_tokens(own: pa.Table, examples: pa.Table, name: str) -> tuple[Tensor, Tensor]:
    """A column of the examples with one boolean per token as [n, N], and which are there."""
    known = dict(zip(examples["item_id"].to_pylist(), examples[name].to_pylist(), strict=True))
    rows = [known[item] for item in own["item_id"].to_pylist()]
    length = max(map(len, rows))
    there = padded([[1] * len(row) for row in rows], length, 0)
    return torch.from_numpy(padded(rows, length, 0)).bool(), torch.from_numpy(there).bool()


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
            foreign = config.own_controls and (own := _OWN.fullmatch(family)) is not None and own["of"] != label
            if label in members or foreign or (masked and not labels.get(label, False)):
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
