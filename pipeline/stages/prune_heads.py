"""What becomes of predictions as heads are removed in some order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from evaluation.head_pruning import PruningCurve, curves_of_orders
from pipeline.execution.task import Task
from pipeline.keys import digest
from pipeline.microbatch import MicroBatch
from pipeline.schemas import PRUNED
from pipeline.stages.setting import Setting, content_of
from pipeline.stages.weigh_heads import Gold, batch_of
from pipeline.worker import Shard, StageWorker

STAGE = "prune_heads"


def key_of(setting: Setting, batch: MicroBatch, order: Sequence[int], steps: int, gold: Gold) -> str:
    """Key of the curve of one order, on a microbatch."""
    return setting.key(STAGE, order=list(order), steps=steps, gold=gold, **content_of(batch))


def task_of(setting: Setting, batch: MicroBatch, orders: Mapping[str, Sequence[int]], steps: int, gold: Gold) -> Task:
    """The task that removes heads in several orders {key: order} on a microbatch."""
    payload = {"orders": dict(orders), "steps": steps, "gold": gold, "shard": setting.shard(batch)}
    weight = len(batch.rows) * len(orders)
    return Task(digest(sorted(orders)), STAGE, payload, setting.model.fingerprint, weight, tuple(orders), batch.items)


def process(
    *, worker: StageWorker, rows: slice, orders: dict[str, Sequence[int]], steps: int, gold: Gold, shard: Shard
) -> dict[str, pa.Table]:
    """Remove heads for rows of a microbatch; sets of heads that several orders come by are run once."""
    explainer, examples, inputs = worker.open(shard, rows)
    fractions = [step / steps for step in range(steps + 1)]
    found = curves_of_orders(explainer, [batch_of(inputs, gold, rows)], orders, fractions=fractions)
    items = [example["item_id"] for example in examples]
    return {key: curve_table(items, curve) for key, curve in found.items()}


def curve_table(items: Sequence[str], curve: PruningCurve) -> pa.Table:
    """The table of one order's curve."""
    columns = {
        "item_id": list(items),
        "removed": [curve.removed.tolist()] * len(items),
        "loss": curve.loss.T.tolist(),
        "decided": curve.decided.T.bool().tolist(),
    }
    return pa.table(columns, schema=PRUNED)
