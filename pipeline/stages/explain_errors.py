"""Explain misclassified texts: what speaks for the predicted class, for the gold one, and for the first against the
second; all three from one capture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import torch

from attribution.targets import Target
from pipeline.execution.task import Task
from pipeline.microbatch import MicroBatch
from pipeline.schemas import EXPLAINED_ERRORS
from pipeline.stages.attribute import explained_inputs, makers
from pipeline.stages.setting import Setting, content_of
from pipeline.worker import Shard, StageWorker

STAGE = "explain_errors"

Classes = Sequence[tuple[int, int]]  # of each example the gold and the predicted one


def task_of(
    setting: Setting, batch: MicroBatch, method: Mapping[str, Any], classes: Classes, options: Mapping[str, Any]
) -> Task:
    """The task that explains the errors of a microbatch."""
    content = {"method": method, "classes": tuple(classes), **options}
    key = setting.key(STAGE, **content, **makers(setting, method["method"]), **content_of(batch))
    payload = {"key": key, **content, "shard": setting.shard(batch)}
    return Task(key, STAGE, payload, setting.model.fingerprint, len(batch.rows), (key,), batch.items)


def process(
    *,
    worker: StageWorker,
    rows: slice,
    key: str,
    method: dict[str, Any],
    classes: Classes,
    output: str,
    hide_separators: bool,
    shard: Shard,
) -> dict[str, pa.Table]:
    """Explain rows of a microbatch."""
    explainer, examples, inputs = explained_inputs(worker, shard, rows, {str(method.get("unit"))}, hide_separators)
    gold, predicted = torch.tensor(classes[rows]).T
    found = explainer.scores_many(
        inputs.input_ids,
        inputs.attention_mask,
        methods={"": method},
        target=[Target("class", predicted, contrast=gold), Target("class", gold), Target("class", predicted)],
        token_type_ids=inputs.token_type_ids,
        output=output,
        word_ids=inputs.word_ids,
        sentence_ids=inputs.sentence_ids,
    )[""]
    columns: dict[str, Any] = {"item_id": [example["item_id"] for example in examples]}
    columns |= {"gold": gold.tolist(), "predicted": predicted.tolist()}
    for place, name in enumerate(("contrast_scores", "gold_scores", "predicted_scores")):
        scores = found[:, place].cpu()
        columns[name] = [own[: len(e["input_ids"])].tolist() for e, own in zip(examples, scores, strict=True)]
    return {key: pa.table(columns, schema=EXPLAINED_ERRORS)}
