"""What texts cost the models of several arms: operations, time and how sparse their attention is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
from torch import Tensor

from attribution.explainer import Explainer
from attribution.model.families import family_of
from attribution.patterns.costs import Cost, costs
from attribution.summaries.encoding import encode
from pipeline.arm_models import Making, made
from pipeline.execution.task import Task
from pipeline.microbatch import inputs_of
from pipeline.schemas import COSTS
from pipeline.stages.setting import Setting
from pipeline.worker import ModelRef, StageWorker

STAGE = "measure_costs"
DOCUMENTS, EXAMPLES = "documents", "examples"


@dataclass(frozen=True)
class Measured:
    """The first `number` texts of a table: documents of at most `max_length` tokens, or the examples of a run."""

    table: str
    stage: str
    number: int
    max_length: int = 0
    segment_ids: bool = True


def task_of(setting: Setting, texts: Measured, makings: Mapping[str, Making]) -> Task:
    """The task that measures arms in turns, so that what else the machine does weighs on all of them."""
    content = {"texts": texts, "makings": dict(makings)}
    key = setting.key(STAGE, **content)
    weight = texts.number * len(makings)
    return Task(key, STAGE, {"key": key, "model": setting.model, **content}, setting.model.fingerprint, weight, (key,))


def process(
    *, worker: StageWorker, rows: slice, key: str, model: ModelRef, texts: Measured, makings: dict[str, Making]
) -> dict[str, pa.Table]:
    """Measure all arms on all texts; weights are as they are drawn, which is the same to what is measured."""
    explainer = worker.explainer(model)
    given = list(READ[texts.stage](worker, explainer, texts))
    models = {arm: made(explainer, making).eval() for arm, making in makings.items()}
    cells = [
        (arm, number, *_row(cost)) for arm, each in costs(models, given).items() for number, cost in enumerate(each)
    ]
    return {key: pa.table(dict(zip(COSTS.names, zip(*cells, strict=True), strict=True)), schema=COSTS)}


def _row(cost: Cost) -> tuple[int, float, float]:
    return cost.flops, cost.seconds, cost.sparsity


def _documents(worker: StageWorker, explainer: Explainer, texts: Measured) -> Iterator[dict[str, Tensor]]:
    assert explainer.tokenizer is not None, "runs have tokenizers"
    for row in worker.read(texts.table, DOCUMENTS).slice(0, texts.number).to_pylist():
        batch = encode(explainer.tokenizer, [row["sentences"]], texts.max_length).to(explainer.model.device)
        given = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        types = family_of(explainer.model.config.model_type).token_types
        yield {**given, **({"token_type_ids": batch.token_type_ids} if types else {})}


def _examples(worker: StageWorker, explainer: Explainer, texts: Measured) -> Iterator[dict[str, Tensor]]:
    for row in worker.examples(texts.table, tuple(range(texts.number))):
        inputs = inputs_of([row], len(row["input_ids"]), 0, segment_ids=texts.segment_ids).to(explainer.model.device)
        types = family_of(explainer.model.config.model_type).token_types and inputs.token_type_ids is not None
        names = ("input_ids", "attention_mask", *(("token_type_ids",) if types else ()))
        yield {name: getattr(inputs, name) for name in names}


READ = {DOCUMENTS: _documents, EXAMPLES: _examples}
