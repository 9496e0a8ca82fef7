"""What the language-model head recovers of texts at each layer, by the body explained or the one before fine-tuning."""

from __future__ import annotations

import pyarrow as pa

from attribution.decoding.coherence import TAUS, layer_coherence
from pipeline.execution.task import Task
from pipeline.microbatch import MicroBatch
from pipeline.schemas import LAYERS
from pipeline.stages.setting import Setting, content_of
from pipeline.worker import Shard, StageWorker

STAGE = "measure_coherence"
EXPLAINED, PRETRAINED = "explained", "pretrained"


def task_of(setting: Setting, batch: MicroBatch, body: str) -> Task:
    """The task that measures a microbatch with one body."""
    key = setting.key(STAGE, body=body, taus=TAUS, lm_head=setting.lm_head, **content_of(batch))
    payload = {"key": key, "body": body, "shard": setting.shard(batch)}
    return Task(key, STAGE, payload, setting.model.fingerprint, len(batch.rows), (key,))


def process(*, worker: StageWorker, rows: slice, key: str, body: str, shard: Shard) -> dict[str, pa.Table]:
    """Measure a microbatch; it is small enough not to be divided, as the head takes few positions at a time."""
    explainer, _, inputs = worker.open(shard, rows)
    if body == PRETRAINED:
        explainer = worker.before_tuning(shard.model)
    found = layer_coherence(explainer, [inputs], TAUS)
    measured = [{"body": body, **row, "n": found.positions} for row in found.rows()]
    return {key: pa.Table.from_pylist(measured, schema=LAYERS)}
