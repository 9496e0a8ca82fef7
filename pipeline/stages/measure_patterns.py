"""How much of each head's attention lies where patterns hold, text by text: of the model, or a random one like it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from attribution.explainer import Explainer
from attribution.patterns.mass import PatternMass, measure
from attribution.patterns.predicates import read_predicate
from attribution.patterns.relevance import random_like
from attribution.patterns.tokens import ARCS, Arcs
from pipeline.execution.task import Task
from pipeline.keys import digest
from pipeline.microbatch import MicroBatch
from pipeline.schemas import PATTERN_MASS
from pipeline.stages.setting import Setting, content_of
from pipeline.trees import arcs_of
from pipeline.worker import Shard, StageWorker

STAGE = "measure_patterns"
TREES = "trees"  # where tables of them are kept

Written = Mapping[str, Any]  # a predicate as a file has it


def key_of(setting: Setting, batch: MicroBatch, predicate: Written, seed: int | None, trees: str | None = None) -> str:
    """Key of one predicate on a microbatch; seed: of a random model, None for the model itself; trees: their digest."""
    known = {} if trees is None else {"trees": trees}
    return setting.key(STAGE, predicate=dict(predicate), seed=seed, **known, **content_of(batch))


def task_of(
    setting: Setting, batch: MicroBatch, predicates: Mapping[str, Written], seed: int | None, trees: str | None = None
) -> Task:
    """The task that measures several predicates {key: predicate} on a microbatch in one pass; trees: their table."""
    payload = {"predicates": dict(predicates), "seed": seed, "trees": trees, "shard": setting.shard(batch)}
    keys = tuple(predicates)
    return Task(digest(sorted(keys)), STAGE, payload, setting.model.fingerprint, len(batch.rows), keys, batch.items)


def process(
    *,
    worker: StageWorker,
    rows: slice,
    predicates: dict[str, Written],
    seed: int | None,
    trees: str | None,
    shard: Shard,
) -> dict[str, pa.Table]:
    """Measure rows of a microbatch."""
    explainer, examples, inputs = worker.open(shard, rows)
    if seed is not None:
        explainer = worker.variant(shard.model, seed, partial(_random, seed=seed))
    read = {key: read_predicate(written) for key, written in predicates.items()}
    arcs = None if trees is None else _arcs(worker, trees, shard, rows)
    known = {} if arcs is None else {name: getattr(arcs, name) for name in ARCS}
    relations = () if arcs is None else arcs.names
    found = measure(explainer.adapter, [{**inputs.present(), **known}], read, relations=relations)
    items = [example["item_id"] for example in examples]
    return {key: _table(items, found, number) for number, key in enumerate(found.names)}


def _arcs(worker: StageWorker, trees: str, shard: Shard, rows: slice) -> Arcs:
    table = worker.kept((TREES, trees), lambda: worker.read(trees, TREES).to_pylist())
    return arcs_of([table[row] for row in shard.rows[rows]], shard.length)


def _random(explainer: Explainer, seed: int) -> Explainer:
    return Explainer(random_like(explainer.model, seed), explainer.tokenizer, max_tokens=explainer.max_tokens)


def _table(items: Sequence[str], found: PatternMass, number: int) -> pa.Table:
    columns = {
        "item_id": list(items),
        "mass": found.mass[:, number].flatten(1).tolist(),
        "uniform": found.uniform[:, number].tolist(),
        "share": found.share[:, number].tolist(),
    }
    return pa.table(columns, schema=PATTERN_MASS)
