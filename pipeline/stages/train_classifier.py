"""A small classifier of texts, trained with patterns or without: its accuracy, and what its explanations are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from attribution.explainer import Explainer
from attribution.patterns.classes import Encoded, train_classifier
from attribution.patterns.training import Training
from pipeline.arm_models import Making, files_of, made
from pipeline.checkpoints import StoredCheckpoint
from pipeline.execution.task import Task
from pipeline.microbatch import MicroBatch
from pipeline.schemas import STUDENT
from pipeline.stages.load_model import predictions
from pipeline.stages.score_injected import Scoring, explained_values
from pipeline.stages.setting import Setting, content_of
from pipeline.stages.train_student import kept_key
from pipeline.worker import Shard, StageWorker

STAGE = "train_classifier"
ACCURACY = "accuracy"


@dataclass(frozen=True)
class Classifier:
    """How a classifier is made, trained and tested."""

    making: Making
    training: Training
    taught_by: tuple[tuple[str, str], ...] = ()  # stage and key of the predictions that it learns from
    scoring: Scoring | None = None  # how it is explained; None: it is not


def task_of(
    setting: Setting,
    train: str,
    batches: Sequence[MicroBatch],
    classifier: Classifier,
    weight: float,
    *,
    keep: bool = False,
) -> Task:
    """The task that trains one classifier on the examples `train` and tests it by these microbatches of the run."""
    tested = [content_of(batch) for batch in batches]
    key = setting.key(STAGE, train=train, tested=tested, segment_ids=setting.segment_ids, classifier=classifier)
    shards = tuple(setting.shard(batch) for batch in batches)
    payload = {"key": key, "train": train, "shards": shards, "classifier": classifier, "keep": keep}
    results = (key, *((kept_key(key),) if keep else ()))
    return Task(key, STAGE, payload, setting.model.fingerprint, weight, results)


def process(
    *,
    worker: StageWorker,
    rows: slice,
    key: str,
    train: str,
    shards: tuple[Shard, ...],
    classifier: Classifier,
    keep: bool,
) -> dict[str, pa.Table]:
    """Train a classifier and test it; there are no rows to divide. Killed, it goes on behind its last epoch."""
    base, training = worker.explainer(shards[0].model), classifier.training
    assert base.tokenizer is not None, "runs have tokenizers"
    examples = worker.read(train, "examples").to_pylist()
    taught = _taught(worker, classifier.taught_by, [row["item_id"] for row in examples])
    trained = made(base, classifier.making)
    checkpoint = StoredCheckpoint(worker.store, key, training.epochs)
    texts, labels = [_text(row, shards[0].segment_ids) for row in examples], [row["label"] for row in examples]
    losses = train_classifier(trained, texts, labels, training, taught=taught, checkpoint=checkpoint)
    explainer = Explainer(trained, base.tokenizer, max_tokens=base.max_tokens)
    names = (ACCURACY, *(classifier.scoring.metrics if classifier.scoring else ()))
    tested = [row for shard in shards for row in _tested(worker, explainer, shard, classifier.scoring)]
    cells = [("loss", number, value) for number, value in enumerate(losses)]
    cells += [(name, number, row[place]) for place, name in enumerate(names) for number, row in enumerate(tested)]
    checkpoint.clear()
    found = pa.table(dict(zip(STUDENT.names, zip(*cells, strict=True), strict=True)), schema=STUDENT)
    return {key: found, **({kept_key(key): files_of(trained, base.tokenizer)} if keep else {})}


def _text(example: Mapping[str, Any], segment_ids: bool) -> Encoded:
    types = {"token_type_ids": example["token_type_ids"]} if segment_ids and example["token_type_ids"] else {}
    return {"input_ids": example["input_ids"], **types}


def _taught(
    worker: StageWorker, taught_by: tuple[tuple[str, str], ...], items: Sequence[str]
) -> list[list[float]] | None:
    """A teacher's logits of each example; None without a teacher."""
    if not taught_by:
        return None
    rows = [row for stage, key in taught_by for row in worker.read(key, stage).to_pylist()]
    by_item = {row["item_id"]: row["logits"] for row in rows}
    return [by_item[item] for item in items]


def _tested(worker: StageWorker, explainer: Explainer, shard: Shard, scoring: Scoring | None) -> np.ndarray[Any, Any]:
    """[B, K]: whether each example is classified as it is labelled, and the metrics of its explanation."""
    _, examples, inputs = worker.open(shard, slice(None))
    predicted = predictions(explainer, inputs)["predicted"]
    right = [[float(own == example["label"])] for own, example in zip(predicted, examples, strict=True)]
    if scoring is None:
        return np.array(right)
    return np.concatenate([right, explained_values(worker, explainer, shard, slice(None), scoring)[1]], 1)
