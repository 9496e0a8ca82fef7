"""Attribute predictions to tokens: all methods of a microbatch from one capture."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from attribution.asking import Scored
from attribution.capture import Need
from attribution.explainer import Explainer, Request
from attribution.finite import problems
from attribution.methods.plugins import ORIGINS
from attribution.methods.registry import METHODS
from attribution.model.inputs import Inputs
from pipeline.execution.task import Task
from pipeline.keys import digest
from pipeline.microbatch import MicroBatch, units_of
from pipeline.schemas import ATTRIBUTIONS, FACTS
from pipeline.stages.asked import Targets, target_of, without_separators
from pipeline.stages.setting import Setting, content_of
from pipeline.worker import Shard, StageWorker

STAGE = "attribute"


def key_of(
    setting: Setting, batch: MicroBatch, method: Mapping[str, Any], targets: Targets, options: Mapping[str, Any]
) -> str:
    """Key of one method's scores of a microbatch; `method` is its id and resolved parameters."""
    made_by = makers(setting, method["method"])
    return setting.key(STAGE, method=method, targets=targets, options=options, **made_by, **content_of(batch))


def makers(setting: Setting, method: str) -> dict[str, Any]:
    """What the scores of a method depend on beside its parameters, as parts of a key.

    The code of a method from another package is not among the sources of a stage: its version stands for it.
    """
    origin = {"plugin": ORIGINS[method]} if method in ORIGINS else {}
    return origin | ({"lm_head": setting.lm_head} if Need.LAYER_GRADIENT in METHODS[method].needs else {})


def task_of(
    setting: Setting,
    batch: MicroBatch,
    methods: Mapping[str, Mapping[str, Any]],
    targets: Targets,
    options: Mapping[str, Any],
) -> Task:
    """The task that computes several methods {key: method} of a microbatch from one capture."""
    payload = {"methods": dict(methods), "targets": targets, **options, "shard": setting.shard(batch)}
    weight = len(batch.rows) * len(methods)
    return Task(digest(sorted(methods)), STAGE, payload, setting.model.fingerprint, weight, tuple(methods), batch.items)


def process(
    *,
    worker: StageWorker,
    rows: slice,
    methods: dict[str, dict[str, Any]],
    targets: Targets,
    output: str,
    hide_separators: bool,
    shard: Shard,
) -> dict[str, pa.Table]:
    """Explain rows of a microbatch."""
    units = {str(method.get("unit")) for method in methods.values()}
    explainer, examples, inputs = explained_inputs(worker, shard, rows, units, hide_separators)
    goal = target_of(examples, targets[rows])
    found = explainer.scored_many(
        inputs.input_ids,
        inputs.attention_mask,
        methods=methods,
        target=goal,
        token_type_ids=inputs.token_type_ids,
        output=output,
        word_ids=inputs.word_ids,
        sentence_ids=inputs.sentence_ids,
    )
    wrong = {
        key: problems(explainer.adapter, inputs, scored.scores, Request.of(methods[key]), goal, output)
        for key, scored in found.items()
    }
    return {key: attributions(examples, targets[rows], scored, wrong[key]) for key, scored in found.items()}


def explained_inputs(
    worker: StageWorker, shard: Shard, rows: slice, units: Collection[str], hide_separators: bool
) -> tuple[Explainer, list[dict[str, Any]], Inputs]:
    """The model, some rows of a shard, and what methods see of them: with the units that they ask for."""
    explainer, examples, inputs = worker.open(shard, rows)
    if hide_separators:
        inputs = without_separators(inputs, explainer.tokenizer)
    return explainer, examples, replace(inputs, **units_of(examples, shard.length, units))


def attributions(
    examples: Sequence[Mapping[str, Any]], targets: Targets, scored: Scored, wrong: Sequence[str | None]
) -> pa.Table:
    """The table of one method's scores [B, N] and what it knows of the examples; `wrong`: what is wrong with each."""
    scores, facts = scored.scores.cpu(), {name: value.tolist() for name, value in scored.facts.items()}
    starts = [target if isinstance(target, int) else target[0] for target in targets]
    ends = [None if isinstance(target, int) else target[1] for target in targets]
    rows = [values[: len(e["input_ids"])].tolist() for e, values in zip(examples, scores, strict=True)]
    columns = {
        "item_id": [example["item_id"] for example in examples],
        "target": starts,
        "target_end": ends,
        "scores": rows,
        "status": ["ok" if why is None else "nan" for why in wrong],
        **{name: facts.get(name, [None] * len(rows)) for name in FACTS},
        "facts": _other_facts(facts, len(rows)),
        "problem": list(wrong),
    }
    return pa.table(columns, schema=ATTRIBUTIONS)


def _other_facts(facts: Mapping[str, Sequence[float]], rows: int) -> list[list[dict[str, Any]] | None]:
    """What has no column of its own, by name; None where a method knows nothing else."""
    others = {name: values for name, values in facts.items() if name not in FACTS}
    return [
        [{"name": name, "value": values[row]} for name, values in others.items()] if others else None
        for row in range(rows)
    ]
