"""Measure what memory a token of a pass takes, all methods together, before anything is explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline.execution.memory import free_bytes, peak_of, tokens_that_fit
from pipeline.execution.task import Task
from pipeline.microbatch import MicroBatch
from pipeline.schemas import MEMORY
from pipeline.stages import attribute
from pipeline.stages.asked import Targets
from pipeline.stages.setting import Setting, content_of
from pipeline.worker import Shard, StageWorker

STAGE = "measure_memory"
ROWS = 4  # of the longest microbatch, beside one row alone


def largest(batches: Sequence[MicroBatch]) -> MicroBatch | None:
    """The longest microbatch of more than one row: passes of shorter rows take no more per token."""
    return max((batch for batch in batches if len(batch.rows) > 1), key=lambda batch: batch.length, default=None)


def task_of(
    setting: Setting,
    batch: MicroBatch,
    methods: Mapping[str, Mapping[str, Any]],
    targets: Targets,
    options: Mapping[str, Any],
    cpus: float | None,
) -> Task:
    """The task that measures on the first rows of a microbatch."""
    few = MicroBatch(batch.rows[:ROWS], batch.items[:ROWS], batch.length)
    key = setting.key(STAGE, methods=methods, targets=targets[:ROWS], options=options, **content_of(few))
    payload = {"key": key, "methods": dict(methods), "targets": targets[:ROWS], "cpus": cpus, **options}
    payload["shard"] = setting.shard(few)
    return Task(key, STAGE, payload, setting.model.fingerprint, len(methods), (key,))


def process(
    *, worker: StageWorker, rows: slice, key: str, methods: dict[str, dict[str, Any]], targets: Targets,
    cpus: float | None, shard: Shard, **options: Any,
) -> dict[str, pa.Table]:  # fmt: skip
    """What one row takes and what several do; the difference is what a token takes.

    A failure, for want of memory too, is noted: microbatches are then tried whole, and halved where they do not go.
    """
    device, count = shard.model.device, len(shard.rows)
    worker.open(shard, slice(0, 1))  # the model is loaded before anything is measured

    def peak(n: int) -> int:
        part = slice(0, n)
        return peak_of(
            device,
            lambda: attribute.process(
                worker=worker, rows=part, methods=methods, targets=targets, shard=shard, **options
            ),
        )

    row: dict[str, Any] = {"length": shard.length, "rows": count}
    try:
        one, several = peak(1), peak(count)
    except Exception as error:
        row |= {"problem": f"{type(error).__name__}: {error}"}
    else:
        each, free = max(1.0, (several - one) / (shard.length * (count - 1))), free_bytes(device, cpus)
        row |= {"bytes_per_token": each, "free_bytes": free, "tokens": tokens_that_fit(each, free)}
    return {key: pa.Table.from_pylist([row], schema=MEMORY)}
