"""How faithful explanations of a model are whose heads follow patterns, each of its own prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from attribution.explainer import Explainer
from attribution.model.inputs import Inputs
from evaluation import evaluate_all
from evaluation.resampling import RESAMPLE, Resampler
from pipeline.execution.task import Task
from pipeline.microbatch import MicroBatch
from pipeline.schemas import INJECTED_VALUES
from pipeline.stages.attribute import explained_inputs
from pipeline.stages.evaluate import LEVELS, sizes
from pipeline.stages.inject_patterns import injected
from pipeline.stages.setting import Setting, content_of
from pipeline.worker import Shard, StageWorker

STAGE = "score_injected"


@dataclass(frozen=True)
class Scoring:
    """What explains, and how explanations are scored."""

    method: Mapping[str, Any]
    metrics: Sequence[str]
    operator: str | None
    levels: str
    unit: str
    seed: int
    hide_separators: bool


def task_of(setting: Setting, batch: MicroBatch, file: Mapping[str, Any] | None, scoring: Scoring) -> Task:
    """The task that explains a microbatch and scores it; `file` as `inject_patterns` has it, None for the base."""
    content = {"file": file and dict(file), "scoring": scoring}
    model = {"lm_head": setting.lm_head} if scoring.operator == RESAMPLE else {}
    key = setting.key(STAGE, **content, **model, **content_of(batch))
    payload = {"key": key, "shard": setting.shard(batch), **content}
    return Task(key, STAGE, payload, setting.model.fingerprint, len(batch.rows), (key,), batch.items)


def process(
    *, worker: StageWorker, rows: slice, key: str, file: Mapping[str, Any] | None, scoring: Scoring, shard: Shard
) -> dict[str, pa.Table]:
    """Explain rows of a microbatch, and score that."""
    explainer = worker.explainer(shard.model) if file is None else injected(worker, shard.model, file)
    examples, values = explained_values(worker, explainer, shard, rows, scoring)
    columns = {"item_id": [example["item_id"] for example in examples], "values": values}
    return {key: pa.table(columns, schema=INJECTED_VALUES)}


def explained_values(
    worker: StageWorker, explainer: Explainer, shard: Shard, rows: slice, scoring: Scoring
) -> tuple[list[dict[str, Any]], list[list[float]]]:
    """Some rows of a shard, and of each the metrics of the explanation of what this model predicts."""
    units = {str(scoring.method.get("unit")), scoring.unit}
    _, examples, seen = explained_inputs(worker, shard, rows, units, scoring.hide_separators)
    _, _, inputs = explained_inputs(worker, shard, rows, units, hide_separators=False)
    resampler = worker.resampler(shard.model) if scoring.operator == RESAMPLE else None
    return examples, values_of(explainer, seen, inputs, scoring, resampler)


def values_of(
    explainer: Explainer, seen: Inputs, inputs: Inputs, scoring: Scoring, resampler: Resampler | None = None
) -> list[list[float]]:
    """The metrics of each row's explanation, of what the method has `seen` of the `inputs` that are perturbed."""
    scores = explainer.scores_many(**seen.present(), methods={STAGE: dict(scoring.method)})  # type: ignore[arg-type]
    found = evaluate_all(
        explainer,
        **inputs.present(),  # type: ignore[arg-type]
        scores=scores,
        metrics=scoring.metrics,
        levels=LEVELS[scoring.levels](sizes(explainer, inputs, scoring.unit)),
        operator=scoring.operator,
        unit=scoring.unit,
        seed=scoring.seed,
        resampler=resampler,
    )
    values = {metric: each.tolist() for metric, each in found.values[STAGE].items()}
    return [[values[metric][row] for metric in scoring.metrics] for row in range(inputs.shape[0])]
