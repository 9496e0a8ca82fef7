"""Take sets of words away from texts, and as many random ones, and see which class they are then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from attribution.perturb import default_batch_tokens
from evaluation.engine import run_requests
from evaluation.errors.corrections import Decisions, WordRemovals
from evaluation.resampling import RESAMPLE
from pipeline.execution.task import Task
from pipeline.microbatch import MicroBatch, units_of
from pipeline.schemas import WITHOUT_WORDS
from pipeline.stages.setting import Setting, content_of
from pipeline.worker import Shard, StageWorker

STAGE = "remove_words"

WordSets = Sequence[Sequence[Sequence[int]]]  # of each example, as many for all, the numbers of words


def task_of(setting: Setting, batch: MicroBatch, sets: WordSets, options: Mapping[str, Any]) -> Task:
    """The task of a microbatch."""
    content = {"sets": tuple(tuple(map(tuple, own)) for own in sets), **options}
    model = {"lm_head": setting.lm_head} if options["operator"] == RESAMPLE else {}
    key = setting.key(STAGE, **content, **model, **content_of(batch))
    payload = {"key": key, **content, "shard": setting.shard(batch)}
    return Task(key, STAGE, payload, setting.model.fingerprint, len(batch.rows), (key,), batch.items)


def process(
    *,
    worker: StageWorker,
    rows: slice,
    key: str,
    sets: WordSets,
    draws: int,
    operator: str | None,
    seed: int,
    shard: Shard,
) -> dict[str, pa.Table]:
    """Perturb rows of a microbatch; of a part of it, with as much less in each pass."""
    explainer, examples, inputs = worker.open(shard, rows)
    inputs = replace(inputs, **units_of(examples, shard.length, {"word"}))
    request = WordRemovals(chosen_words(sets[rows]), draws, operator, seed)
    found: Decisions = run_requests(
        explainer,
        inputs,
        {"": request},
        batch_tokens=default_batch_tokens(explainer.adapter) * len(examples) // len(shard.rows),
        resampler=worker.resampler(shard.model) if operator == RESAMPLE else None,
    )[""]
    columns = {
        "item_id": [example["item_id"] for example in examples],
        "operator": [found.operator] * len(examples),
        "classes": found.chosen.tolist(),
        "random_classes": found.random.flatten(1).tolist(),
    }
    return {key: pa.table(columns, schema=WITHOUT_WORDS)}


def chosen_words(sets: WordSets) -> Tensor:
    """The sets as bool [B, S, U]."""
    size = 1 + max((word for own in sets for words in own for word in words), default=0)
    chosen = torch.zeros(len(sets), len(sets[0]), size, dtype=torch.bool)
    for row, own in enumerate(sets):
        for place, words in enumerate(own):
            chosen[row, place, list(words)] = True
    return chosen
