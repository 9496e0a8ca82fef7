"""Perturb and predict again: the curves of all methods of a microbatch from one deduplicated run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from torch import Tensor

from attribution.perturb import default_batch_tokens
from evaluation.curves import CurveRequest, Curves, run_curves
from evaluation.levels import TENTHS, Levels, paper_counts
from evaluation.metrics import CURVES
from pipeline.execution.task import Task
from pipeline.keys import digest
from pipeline.microbatch import MicroBatch
from pipeline.schemas import CURVES as COLUMNS
from pipeline.stages.asked import Targets, target_of
from pipeline.stages.attribute import STAGE as ATTRIBUTE
from pipeline.stages.setting import Setting, content_of
from pipeline.worker import Shard, StageWorker

STAGE = "evaluate"


class Wanted(NamedTuple):
    """One result of a task: the curve family, and the scores it is drawn from."""

    curve: str
    attribution_key: str


def key_of(setting: Setting, batch: MicroBatch, wanted: Wanted, targets: Targets, options: Mapping[str, Any]) -> str:
    """Key of one curve family of one method's scores of a microbatch."""
    return setting.key(STAGE, wanted=wanted, targets=targets, options=options, **content_of(batch))


def task_of(
    setting: Setting, batch: MicroBatch, wanted: Mapping[str, Wanted], targets: Targets, options: Mapping[str, Any]
) -> Task:
    """The task that draws several curves {key: wanted} of a microbatch."""
    payload = {"wanted": dict(wanted), "targets": targets, **options, "shard": setting.shard(batch)}
    weight = len(batch.rows) * len(wanted)
    return Task(digest(sorted(wanted)), STAGE, payload, setting.model.fingerprint, weight, tuple(wanted), batch.items)


def process(
    *,
    worker: StageWorker,
    rows: slice,
    wanted: dict[str, Wanted],
    targets: Targets,
    operator: str | None,
    levels: str,
    shard: Shard,
) -> dict[str, pa.Table]:
    """Draw the curves of rows of a microbatch; of a part of it, with as much less in each pass."""
    explainer, examples, inputs = worker.open(shard, rows)
    steps = LEVELS[levels](inputs.attention_mask.sum(1))
    keys = {each.attribution_key for each in wanted.values()}
    scores = {key: read_scores(worker, key, shard.length)[rows] for key in keys}
    requests: dict[str, CurveRequest] = {
        key: CURVES[each.curve].request(scores[each.attribution_key], steps, operator) for key, each in wanted.items()
    }
    tokens = default_batch_tokens(explainer.adapter) * len(examples) // len(shard.rows)
    drawn = run_curves(explainer, inputs, requests, target=target_of(examples, targets[rows]), batch_tokens=tokens)
    return {key: table_of(examples, wanted[key].curve, curves) for key, curves in drawn.items()}


LEVELS: dict[str, Callable[[Tensor], Levels]] = {  # lengths [B] -> levels
    "paper": paper_counts,
    "tenths": lambda lengths: TENTHS,
}


def read_scores(worker: StageWorker, key: str, length: int) -> Tensor:
    """Scores [B, length] that the attribute stage wrote; padding is 0."""
    rows = worker.read(key, ATTRIBUTE)["scores"].to_pylist()
    scores = torch.zeros(len(rows), length)
    for i, row in enumerate(rows):
        scores[i, : len(row)] = torch.tensor(row)
    return scores


def table_of(examples: Sequence[Mapping[str, Any]], curve: str, curves: Curves) -> pa.Table:
    """The table of one curve family: what concerns the target, start and end side by side for spans."""
    pairs = curves.target.ndim == 2
    n = len(examples)
    columns = {
        "item_id": [example["item_id"] for example in examples],
        "curve": [curve] * n,
        "operator": [curves.operator] * n,
        "target": (curves.target[:, 0] if pairs else curves.target).tolist(),
        "target_end": curves.target[:, 1].tolist() if pairs else [None] * n,
        "intact_probability": _listed(curves, curves.intact_probabilities),
        "intact_logit": _listed(curves, curves.intact_logits),
        "counts": curves.counts.tolist(),
        "levels": curves.levels.tolist(),
        "probabilities": _listed(curves, curves.probabilities),
        "logits": _listed(curves, curves.logits),
        "squared_errors": _errors(curves),
        "predicted": _flat(curves.predicted),
        "intact_predicted": _flat(curves.intact_predicted),
    }
    return pa.table(columns, schema=COLUMNS)


def _flat(values: Tensor | None) -> list[list[int]]:
    assert values is not None
    rows: list[list[int]] = values.reshape(len(values), -1).tolist()
    return rows


def _errors(curves: Curves) -> list[list[float]]:
    assert curves.squared_errors is not None
    rows: list[list[float]] = curves.squared_errors.float().cpu().tolist()
    return rows


def _listed(curves: Curves, values: Tensor) -> list[list[float]]:
    rows: list[list[float]] = curves.of_target(values).float().flatten(1).cpu().tolist()
    return rows
