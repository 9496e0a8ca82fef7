"""From curves, removed sets and scores to values per example."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from attribution.conservation import SUMS
from evaluation import CURVES, METRICS, answer_recall
from evaluation.plausibility import rationale_length
from pipeline.collect import in_order_of
from pipeline.config import EvaluationConfig
from pipeline.microbatch import padded
from pipeline.perturbed import Perturbed, chunks_of, curves_of, removals_of
from pipeline.schemas import VALUES
from pipeline.stages.explain_again import AGAIN

Floats = NDArray[np.float64]
MARKS = frozenset({"cues", "rationale"})  # what metrics call the tokens that someone marked


def values_table(
    labels: Sequence[str],
    examples: pa.Table,
    attributions: pa.Table,
    perturbed: Perturbed,
    config: EvaluationConfig,
    references: Sequence[str] = (),
) -> pa.Table:
    """The `values` table: each metric of each method on each example, in the order of the examples.

    attributions: of texts that are whole; those of the rows that were perturbed are with these.

    references: labels whose scores are what blanking each token out changes.
    """
    parts = [
        part
        for label in labels
        for metric in measured(config, examples)
        for part in _values(label, metric, examples, attributions, perturbed, config, references)
    ]
    return pa.concat_tables(parts) if parts else VALUES.empty_table()


def measured(config: EvaluationConfig, examples: pa.Table) -> list[str]:
    """The metrics of a run that its tables tell: those asked for, and those that marked texts have beside them."""
    marked = config.where_marked if has_marks(examples) else []
    return list(dict.fromkeys(metric for metric in [*config.metrics, *marked] if metric not in AGAIN))


def has_marks(examples: pa.Table) -> bool:
    """Whether a token of some example is part of a rationale, or a cue."""
    return any(any(row) for row in examples["rationale"].to_pylist() if row is not None)


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
    perturbed: Perturbed,
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
        elif own.num_rows and (table := _of_scores(metric)(label, own, examples, config)) is not None:
            yield table
        return
    if not CURVES.keys() >= set(found.prepared.values()):
        yield from _removal_values(label, metric, perturbed)
        return
    families = {name: perturbed.curves_of(label, family) for name, family in found.prepared.items()}
    if all(table.num_rows for table in families.values()):
        values = found(**{name: curves_of(table) for name, table in families.items()}).double().numpy()
        items = next(iter(families.values()))["item_id"]
        yield _table(label, metric, items, values, np.ones(len(values)))


def _removal_values(label: str, metric: str, perturbed: Perturbed) -> Iterator[pa.Table]:
    """Of metrics that compare scores with what removed sets cost; a few rows at a time."""
    ((name, sets),) = METRICS[metric].prepared.items()
    own = perturbed.attributions.filter(pc.field("method") == label)
    for found in chunks_of(perturbed.sets_of(sets)) if own.num_rows else ():
        scores = _scores(in_order_of(found, own))
        values = METRICS[metric](scores=scores, **{name: removals_of(found, scores.shape[1])}).numpy()
        yield _table(label, metric, found["item_id"], values, np.ones(len(values)))


def _score_values(metric: str, label: str, own: pa.Table, examples: pa.Table, config: EvaluationConfig) -> pa.Table:
    """Of metrics that ask for scores, tokens and rationales."""
    special, visible = _of_tokens(own, examples, "special_tokens")
    known: dict[str, Any] = {"scores": _scores(own), "tokens": ~special & visible}
    needs = METRICS[metric].needs
    if "rationale" in needs:
        known["rationale"], _ = _of_tokens(own, examples, "rationale")
    if "rationale_length" in needs:
        marks = zip(examples["rationale"].to_pylist(), examples["special_tokens"].to_pylist(), strict=True)
        known["rationale_length"] = rationale_length([_ranked(*each) for each in marks])
    values = METRICS[metric](**{name: known[name] for name in needs}).numpy()
    return _table(label, metric, own["item_id"], values, np.ones(len(values)))


def _ranked(marks: Sequence[bool] | None, special: Sequence[bool]) -> list[bool]:
    """The marks of tokens that are ranked; none of a text without."""
    return [mark and not left_out for mark, left_out in zip(marks or (), special, strict=False)]


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
    rows = [known[item] or [] for item in own["item_id"].to_pylist()]
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


def _of_scores(metric: str) -> Callable[[str, pa.Table, pa.Table, EvaluationConfig], pa.Table | None]:
    return _FROM_SCORES.get(metric) or partial(_score_values, metric)


_RECALL_COLUMNS = ["item_id", "special_tokens", "answer_start", "answer_end"]


def _table(label: str, metric: str, items: pa.ChunkedArray, values: Floats, weights: Floats) -> pa.Table:
    n = len(values)
    finite = np.where(np.isfinite(values), values, np.nan)
    columns = {"item_id": items, "method": [label] * n, "metric": [metric] * n, "value": finite, "weight": weights}
    return pa.table(columns, schema=VALUES)
