"""Perturb and predict again: the curves of all methods of a microbatch, and what removed sets cost, from one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from torch import Tensor

from attribution.explainer import Explainer
from attribution.methods.units import Units
from attribution.model.inputs import Inputs
from attribution.perturb import default_batch_tokens
from evaluation.curves import Curves
from evaluation.engine import Request, perturbable_tokens, run_requests
from evaluation.levels import TENTHS, Levels, paper_counts
from evaluation.metrics import CURVES
from evaluation.removals import REMOVALS, Removals
from evaluation.resampling import RESAMPLE
from pipeline.execution.task import Task
from pipeline.keys import digest
from pipeline.microbatch import MicroBatch, units_of
from pipeline.schemas import CURVES as COLUMNS
from pipeline.schemas import OF_LEVELS
from pipeline.schemas import REMOVALS as REMOVED
from pipeline.stages.asked import Targets, target_of
from pipeline.stages.attribute import STAGE as ATTRIBUTE
from pipeline.stages.setting import Setting, content_of
from pipeline.worker import Shard, StageWorker

STAGE = "evaluate"


class Wanted(NamedTuple):
    """One result of a task: a curve family and the scores it is drawn from, or removed sets, drawn with a seed."""

    source: str
    attribution_key: str | None = None
    seed: int | None = None


def key_of(
    setting: Setting,
    batch: MicroBatch,
    wanted: Wanted,
    targets: Targets,
    options: Mapping[str, Any],
    stage: str = STAGE,
) -> str:
    """Key of one curve family of one method's scores of a microbatch, or of removed sets, which have no levels."""
    read = {name: value for name, value in options.items() if wanted.source in CURVES or name != "levels"}
    model = {"lm_head": setting.lm_head} if options["operator"] == RESAMPLE else {}
    return setting.key(stage, wanted=wanted, targets=targets, options=read, **model, **content_of(batch))


def task_of(
    setting: Setting,
    batch: MicroBatch,
    wanted: Mapping[str, Wanted],
    targets: Targets,
    options: Mapping[str, Any],
    stage: str = STAGE,
) -> Task:
    """The task that computes several results {key: wanted} of a microbatch."""
    payload = {"wanted": dict(wanted), "targets": targets, **options, "shard": setting.shard(batch)}
    weight = len(batch.rows) * len(wanted)
    return Task(digest(sorted(wanted)), stage, payload, setting.model.fingerprint, weight, tuple(wanted), batch.items)


def process(
    *,
    worker: StageWorker,
    rows: slice,
    wanted: dict[str, Wanted],
    targets: Targets,
    operator: str | None,
    levels: str,
    unit: str,
    shard: Shard,
    places: Sequence[int] | None = None,
) -> dict[str, pa.Table]:
    """Perturb rows of a microbatch; of a part of it, with as much less in each pass.

    places: of the shard's rows in the microbatch whose scores are read; None where it is that microbatch.
    """
    explainer, examples, inputs = worker.open(shard, rows)
    inputs = replace(inputs, **units_of(examples, shard.length, {unit}))
    steps = LEVELS[levels](sizes(explainer, inputs, unit))
    keys = {each.attribution_key for each in wanted.values() if each.attribution_key is not None}
    own = slice(None) if places is None else list(places)
    scores = {key: read_scores(worker, key, shard.length)[own][rows] for key in keys}
    requests = {key: request_of(each, scores, steps, operator, unit) for key, each in wanted.items()}
    tokens = default_batch_tokens(explainer.adapter) * len(examples) // len(shard.rows)
    options: dict[str, Any] = {
        "resampler": worker.resampler(shard.model) if operator == RESAMPLE else None,
        "batch_tokens": tokens,
    }
    found = run_requests(explainer, inputs, requests, target=target_of(examples, targets[rows]), **options)
    worker.passes += next(iter(found.values())).passes
    return {key: table_of(examples, wanted[key].source, result) for key, result in found.items()}


def request_of(
    wanted: Wanted, scores: Mapping[str, Tensor], levels: Levels, operator: str | None, unit: str
) -> Request:
    """What is asked of the engine for a result."""
    if wanted.attribution_key is None:
        return replace(REMOVALS[wanted.source], operator=operator, unit=unit, seed=wanted.seed or 0)
    return replace(CURVES[wanted.source].request(scores[wanted.attribution_key], levels, operator), unit=unit)


def sizes(explainer: Explainer, inputs: Inputs, unit: str) -> Tensor:
    """[B] what levels are parts of: all tokens, as the papers count them, or the words or sentences."""
    if unit == "token":
        return inputs.attention_mask.sum(1)
    return Units.among(inputs, perturbable_tokens(explainer.adapter, inputs), unit).count


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


def table_of(examples: Sequence[Mapping[str, Any]], source: str, found: Curves | Removals) -> pa.Table:
    """The table of one result."""
    if isinstance(found, Curves):
        return curves_table(examples, source, found)
    return removals_table(examples, source, found)


def curves_table(examples: Sequence[Mapping[str, Any]], curve: str, curves: Curves) -> pa.Table:
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
        **{name: _of_levels(getattr(curves, name)) for name in OF_LEVELS},
        "predicted": _flat(curves.predicted),
        "intact_predicted": _flat(curves.intact_predicted),
    }
    return pa.table(columns, schema=COLUMNS)


def _flat(values: Tensor | None) -> list[list[int]]:
    assert values is not None
    rows: list[list[int]] = values.reshape(len(values), -1).tolist()
    return rows


def _of_levels(values: Tensor | None) -> list[list[float]]:
    assert values is not None
    rows: list[list[float]] = values.float().cpu().tolist()
    return rows


def _listed(curves: Curves, values: Tensor) -> list[list[float]]:
    rows: list[list[float]] = curves.of_target(values).float().flatten(1).cpu().tolist()
    return rows


def removals_table(examples: Sequence[Mapping[str, Any]], sets: str, found: Removals) -> pa.Table:
    """The table of removed sets: of each example its own units and the sets that were asked for."""
    rows = [_removed(example, row, found) for row, example in enumerate(examples)]
    return pa.Table.from_pylist([{"sets": sets, "operator": found.operator, **row} for row in rows], schema=REMOVED)


def _removed(example: Mapping[str, Any], row: int, found: Removals) -> dict[str, Any]:
    asked, count = found.asked[row], int(found.units.count[row])
    return {
        "item_id": example["item_id"],
        "units": found.units.ids[row, : len(example["input_ids"])].tolist(),
        "removed": found.removed[row, asked, :count].flatten().tolist(),
        "groups": found.group.to(asked.device)[asked].tolist(),
        "intact_probability": found.intact_log_probabilities[row].exp().tolist(),
        "intact_logit": found.intact_logits[row].tolist(),
        "probabilities": found.log_probabilities[row, asked].exp().flatten().tolist(),
        "logits": found.logits[row, asked].flatten().tolist(),
    }
