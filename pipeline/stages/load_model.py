"""Load the model and let it predict every example: what is explained, and whether the labels are in its order."""

from __future__ import annotations

import math
from itertools import chain
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from attribution.errors import InputError
from attribution.explainer import Explainer
from attribution.finite import first_module
from attribution.model.inputs import Inputs
from pipeline.execution.task import Task
from pipeline.microbatch import MicroBatch
from pipeline.schemas import PREDICTIONS
from pipeline.stages.asked import Examples, masked_of
from pipeline.stages.setting import Setting, content_of
from pipeline.worker import Shard, StageWorker

STAGE = "load_model"


def key_of(setting: Setting, batch: MicroBatch) -> str:
    """Key of a microbatch's predictions."""
    return setting.key(STAGE, **content_of(batch))


def task_of(setting: Setting, batch: MicroBatch) -> Task:
    """The task that predicts a microbatch."""
    key = key_of(setting, batch)
    payload = {"key": key, "shard": setting.shard(batch)}
    return Task(key, STAGE, payload, setting.model.fingerprint, len(batch.rows), (key,), batch.items)


def process(*, worker: StageWorker, rows: slice, key: str, shard: Shard) -> dict[str, pa.Table]:
    """Predict rows of a microbatch."""
    explainer, examples, inputs = worker.open(shard, rows)
    columns = predictions(explainer, inputs) if examples[0]["masked"] is None else choices(explainer, inputs, examples)
    if not all(map(math.isfinite, chain(*columns["logits"]))):
        raise InputError(_not_finite(explainer, inputs))
    return {key: pa.table({"item_id": [example["item_id"] for example in examples], **columns}, schema=PREDICTIONS)}


def _not_finite(explainer: Explainer, inputs: Inputs) -> str:
    adapter = explainer.adapter
    places = (first_module(adapter, inputs.rows(slice(row, row + 1))) for row in range(len(inputs.input_ids)))
    place = next((name for name in places if name is not None), "its logits")
    other = "" if adapter.dtype in (torch.float32, torch.float64) else "; model.dtype=float32 may help"
    return f"conf error: in {adapter.dtype_name} the model gives values that are not finite from {place} on{other}."


def predictions(explainer: Explainer, inputs: Inputs) -> dict[str, Any]:
    """The columns of the predictions table but the first, for [B, N] inputs."""
    logits = explainer.adapter.logits(inputs).float().cpu()
    if logits.ndim == 2:
        rest = {"predicted": logits.argmax(1).tolist(), "predicted_end": [None] * len(logits)}
        probabilities = logits.sigmoid() if explainer.adapter.multi_label else logits.softmax(1)
        return {"logits": logits.tolist(), "probabilities": probabilities.tolist(), **rest}
    ends = logits.masked_fill(~inputs.attention_mask.bool()[..., None], -torch.inf)
    best = ends.argmax(1)
    return {
        "logits": _at(logits, best).tolist(),
        "probabilities": _at(ends.softmax(1), best).tolist(),
        "predicted": best[:, 0].tolist(),
        "predicted_end": best[:, 1].tolist(),
    }


def choices(explainer: Explainer, inputs: Inputs, examples: Examples) -> dict[str, Any]:
    """The same where a word is masked: which of its forms stands there, as a choice between them alone."""
    logits = explainer.adapter.logits(inputs, masked_of(examples)[:, None])[:, 0].float().cpu()
    own = logits.gather(1, torch.tensor([row["choices"] for row in examples]))
    rest = {"predicted": own.argmax(1).tolist(), "predicted_end": [None] * len(own)}
    return {"logits": own.tolist(), "probabilities": own.softmax(1).tolist(), **rest}


def _at(ends: Tensor, positions: Tensor) -> Tensor:
    """[B, 2]: start and end values at their positions [B, 2]."""
    return ends.gather(1, positions[:, None, :]).squeeze(1)
