"""What a model predicts once heads of it follow patterns, without training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from attribution.explainer import Explainer
from attribution.patterns.models import inject
from attribution.patterns.schema import PatternFile
from pipeline.execution.task import Task
from pipeline.keys import digest
from pipeline.microbatch import MicroBatch
from pipeline.schemas import PREDICTIONS
from pipeline.stages.load_model import predictions
from pipeline.stages.setting import Setting, content_of
from pipeline.worker import ModelRef, Shard, StageWorker

STAGE = "inject_patterns"


def task_of(setting: Setting, batch: MicroBatch, file: Mapping[str, Any]) -> Task:
    """The task that predicts a microbatch; `file`: the patterns, and which heads get them, as a file has it."""
    key = setting.key(STAGE, file=dict(file), **content_of(batch))
    payload = {"key": key, "file": dict(file), "shard": setting.shard(batch)}
    return Task(key, STAGE, payload, setting.model.fingerprint, len(batch.rows), (key,), batch.items)


def process(*, worker: StageWorker, rows: slice, key: str, file: dict[str, Any], shard: Shard) -> dict[str, pa.Table]:
    """Predict rows of a microbatch."""
    _, examples, inputs = worker.open(shard, rows)
    columns = predictions(injected(worker, shard.model, file), inputs)
    return {key: pa.table({"item_id": [example["item_id"] for example in examples], **columns}, schema=PREDICTIONS)}


def injected(worker: StageWorker, model: ModelRef, file: Mapping[str, Any]) -> Explainer:
    """The model of a task with these patterns, made once."""

    def make(explainer: Explainer) -> Explainer:
        changed = inject(explainer.model, explainer.tokenizer, PatternFile.read(file))
        return Explainer(changed, explainer.tokenizer, max_tokens=explainer.max_tokens)

    return worker.variant(model, digest(file), make)
