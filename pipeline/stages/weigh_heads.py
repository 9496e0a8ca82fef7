"""How important every head is for each text, by any definition: all those of a microbatch from one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from attribution.heads.importance import HeadValues, head_values
from attribution.model.inputs import Inputs
from pipeline.execution.task import Task
from pipeline.keys import digest
from pipeline.microbatch import MicroBatch
from pipeline.schemas import HEAD_VALUES
from pipeline.stages.setting import Setting, content_of
from pipeline.worker import Shard, StageWorker

STAGE = "weigh_heads"

Method = Mapping[str, Any]  # {method, **parameters}
Gold = tuple[int, ...] | tuple[tuple[int, int], ...] | None  # class or answer of each example; None: the prediction


def key_of(setting: Setting, batch: MicroBatch, method: Method, gold: Gold) -> str:
    """Key of one importance of a microbatch."""
    return setting.key(STAGE, method=dict(method), gold=gold, **content_of(batch))


def task_of(setting: Setting, batch: MicroBatch, methods: Mapping[str, Method], gold: Gold) -> Task:
    """The task that weighs heads by several methods {key: method} on a microbatch; it is not divided."""
    return _task(digest(sorted(methods)), setting, [batch], methods, [gold])


def joint_task(setting: Setting, batches: Sequence[MicroBatch], method: Method, gold: Sequence[Gold]) -> Task:
    """The task of an importance whose values depend on all texts."""
    content = [content_of(batch) for batch in batches]
    key = setting.key(STAGE, method=dict(method), gold=gold, batches=content)
    return _task(key, setting, batches, {key: method}, gold)


def _task(
    name: str, setting: Setting, batches: Sequence[MicroBatch], methods: Mapping[str, Method], gold: Sequence[Gold]
) -> Task:
    payload = {"methods": dict(methods), "gold": list(gold), "shards": [setting.shard(batch) for batch in batches]}
    weight = sum(len(batch.rows) for batch in batches) * len(methods)
    return Task(name, STAGE, payload, setting.model.fingerprint, weight, tuple(methods))


def process(
    *, worker: StageWorker, rows: slice, methods: dict[str, dict[str, Any]], gold: list[Gold], shards: list[Shard]
) -> dict[str, pa.Table]:
    """Weigh heads on one microbatch, or on all."""
    opened = [worker.open(shard, rows) for shard in shards]
    given = [batch_of(inputs, goal, rows) for (_, _, inputs), goal in zip(opened, gold, strict=True)]
    found = head_values(opened[0][0], given, methods=methods)
    items = [example["item_id"] for _, examples, _ in opened for example in examples]
    return {key: value_table(items, values) for key, values in found.items()}


def batch_of(inputs: Inputs, gold: Gold, rows: slice) -> dict[str, Tensor]:
    """Inputs, and what the loss is of, as `head_importances` takes them."""
    given = inputs.present()
    if gold is None:
        return given
    goal = torch.tensor(gold[rows])
    if goal.ndim == 2:
        return {**given, "start_positions": goal[:, 0], "end_positions": goal[:, 1]}
    return {**given, "labels": goal}


def value_table(items: Sequence[str], found: HeadValues) -> pa.Table:
    """The table of one method's values."""
    n = len(items)
    columns = {"item_id": items, "tokens": found.tokens.tolist(), "reads_first": [found.reads_first] * n}
    return pa.table({**columns, "values": found.values.flatten(1).tolist()}, schema=HEAD_VALUES)
