"""Hidden states of masked words, one result for each layer, which probes are trained on."""

from __future__ import annotations

import pyarrow as pa
import torch

from pipeline.execution.task import Task
from pipeline.keys import digest
from pipeline.microbatch import MicroBatch
from pipeline.schemas import STATES
from pipeline.stages.asked import masked_of
from pipeline.stages.setting import Setting, content_of
from pipeline.worker import Shard, StageWorker

STAGE = "represent"


def key_of(setting: Setting, batch: MicroBatch, layer: int) -> str:
    """Key of a microbatch's states in one layer; 0 are the embeddings."""
    return setting.key(STAGE, layer=layer, **content_of(batch))


def task_of(setting: Setting, batch: MicroBatch, layers: dict[str, int]) -> Task:
    """The task that reads the states of several layers {key: layer} of a microbatch from one pass."""
    payload = {"layers": layers, "shard": setting.shard(batch)}
    keys = tuple(layers)
    return Task(digest(sorted(keys)), STAGE, payload, setting.model.fingerprint, len(batch.rows), keys, batch.items)


def process(*, worker: StageWorker, rows: slice, layers: dict[str, int], shard: Shard) -> dict[str, pa.Table]:
    """Read the states of rows of a microbatch."""
    explainer, examples, inputs = worker.open(shard, rows)
    states, place = explainer.adapter.states(inputs), masked_of(examples)
    items = [example["item_id"] for example in examples]
    found = {}
    for key, layer in layers.items():
        own = states[layer].float().cpu()[torch.arange(len(place)), place]
        found[key] = pa.table({"item_id": items, "state": own.tolist()}, schema=STATES)
    return found
