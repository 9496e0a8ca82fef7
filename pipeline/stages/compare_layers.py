"""How comprehensive the decoded maps of some layers are, text by text."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from evaluation.layer_choice import comprehensiveness_of_texts
from pipeline.execution.task import Task
from pipeline.microbatch import MicroBatch
from pipeline.schemas import LAYER_MAPS
from pipeline.stages.setting import Setting, content_of
from pipeline.worker import Shard, StageWorker

STAGE = "compare_layers"


def task_of(setting: Setting, batch: MicroBatch, layers: Sequence[int]) -> Task:
    """The task that compares layers on a microbatch, by the maps that the method's defaults give of each."""
    key = setting.key(STAGE, layers=layers, lm_head=setting.lm_head, **content_of(batch))
    payload = {"key": key, "layers": tuple(layers), "shard": setting.shard(batch)}
    return Task(key, STAGE, payload, setting.model.fingerprint, len(batch.rows), (key,))


def process(
    *, worker: StageWorker, rows: slice, key: str, layers: tuple[int, ...], shard: Shard
) -> dict[str, pa.Table]:
    """Compare them; a microbatch is not divided, so that its key says all."""
    explainer, examples, inputs = worker.open(shard, rows)
    values = comprehensiveness_of_texts(explainer, inputs, layers, {}).double().cpu()
    measured = [
        {"item_id": example["item_id"], "layer": layer, "value": value}
        for layer, row in zip(layers, values.tolist(), strict=True)
        for example, value in zip(examples, row, strict=True)
    ]
    return {key: pa.Table.from_pylist(measured, schema=LAYER_MAPS)}
