"""Token-to-token scores of masked words: what each takes from every token, in each layer and rolled out up to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from torch import Tensor

from attribution.methods.mixing import MIXING
from pipeline.execution.task import Task
from pipeline.microbatch import MicroBatch
from pipeline.schemas import MIXED
from pipeline.stages.asked import Examples, Targets, masked_of, target_of
from pipeline.stages.setting import Setting, content_of
from pipeline.worker import Shard, StageWorker

STAGE = "mix_context"


def has_layers(method: Mapping[str, Any]) -> bool:
    """Whether a method with its parameters has a map in every layer."""
    return method["method"] in MIXING


def task_of(setting: Setting, batch: MicroBatch, method: Mapping[str, Any], targets: Targets) -> Task:
    """The task that maps a microbatch with one method; its parameters are those of the maps alone."""
    known = MIXING[method["method"]].parameters
    own = {name: value for name, value in method.items() if name == "method" or name in known}
    key = setting.key(STAGE, method=own, targets=targets, **content_of(batch))
    payload = {"key": key, "method": own, "targets": targets, "shard": setting.shard(batch)}
    return Task(key, STAGE, payload, setting.model.fingerprint, len(batch.rows), (key,), batch.items)


def process(
    *, worker: StageWorker, rows: slice, key: str, method: dict[str, Any], targets: Targets, shard: Shard
) -> dict[str, pa.Table]:
    """Map rows of a microbatch."""
    explainer, examples, inputs = worker.open(shard, rows)
    parameters = {name: value for name, value in method.items() if name != "method"}
    maps = explainer.context_mixing(
        inputs.input_ids,
        inputs.attention_mask,
        method=method["method"],
        token_type_ids=inputs.token_type_ids,
        target=target_of(examples, targets[rows]),
        **parameters,
    )
    rolled = MIXING[method["method"]].rolled_out(maps, **parameters)
    place = masked_of(examples)
    return {key: mixed(examples, _rows(maps.cpu(), place), _rows(rolled.cpu(), place))}


def _rows(maps: Tensor, place: Tensor) -> Tensor:
    """[B, L, N] rows of the maps [B, L, N, N] at positions [B]."""
    index = place[:, None, None, None].expand(-1, maps.shape[1], 1, maps.shape[3])
    return maps.gather(2, index)[:, :, 0]


def mixed(examples: Examples, rows: Tensor, rollouts: Tensor) -> pa.Table:
    """The table of rows [B, L, N], without padding."""
    lengths = [len(example["input_ids"]) for example in examples]
    flat = [[maps[i, :, :n].flatten().tolist() for i, n in enumerate(lengths)] for maps in (rows, rollouts)]
    columns = {"item_id": [example["item_id"] for example in examples], "layers": [rows.shape[1]] * len(lengths)}
    return pa.table({**columns, "rows": flat[0], "rollouts": flat[1]}, schema=MIXED)
