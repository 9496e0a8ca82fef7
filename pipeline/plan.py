"""What a run would do: examples, passes and results at hand, counted before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attribution.methods.registry import METHODS
from evaluation import CURVES
from evaluation.levels import TENTHS
from pipeline.collect import Results, in_order_of
from pipeline.config import Config
from pipeline.data import load_dataset
from pipeline.heads import given_heads, joined, resolved_methods
from pipeline.microbatch import MicroBatch, plan_microbatches
from pipeline.models.minilm import minilm_folder
from pipeline.preflight import check_prepared
from pipeline.prepare import Prepared, prepare
from pipeline.schedule import StagePlan, curve_families, plan_attribution, plan_evaluation, whole
from pipeline.stages import identify_heads, load_model
from pipeline.stages.setting import Setting
from pipeline.store import Store
from pipeline.targets import likely_gold, targets_of

PAPER_LEVELS = 9


def describe_plan(config: Config) -> str:
    """The plan of a run in lines of text. Reads model, data and store; computes and writes nothing."""
    if config.model.source == "minilm_reviews" and not minilm_folder(Path(config.paths.models)).is_dir():
        dataset = load_dataset(config.dataset)
        return (
            f"model minilm_reviews: fine-tuned first, in about a minute; the plan counts tokens and passes after that\n"
            f"examples: {len(dataset.examples)} of {dataset.name}, {len(config.attribution)} methods"
        )
    prepared, store = prepare(config), Store(config.paths.store)
    check_prepared(config, prepared, given_heads(config))
    setting = Setting.of(config, prepared)
    batches = plan_microbatches(prepared.examples, config.cluster, prepared.model.max_length)
    predicting = whole([load_model.task_of(setting, batch) for batch in batches], load_model.STAGE, store)
    finding = whole(identify_heads.tasks_of(config, setting), identify_heads.STAGE, store)
    stages = [_line(predicting), _line(finding)]
    if predicting.tasks or finding.tasks:
        stages += [f"attribute: up to {len(batches) * len(config.attribution)} results; known once heads are found"]
    else:
        stages += _later(config, prepared, setting, store, predicting, finding)
    return "\n".join([*_facts(prepared, batches), *_cost(config, prepared, batches), *stages])


def _facts(prepared: Prepared, batches: Sequence[MicroBatch]) -> Iterator[str]:
    lengths = [len(ids) for ids in prepared.examples["input_ids"].to_pylist()]
    shape = sum(batch.length * len(batch.rows) for batch in batches)
    yield f"model {prepared.model.name} ({prepared.model.architecture}), data set {prepared.dataset.name}"
    yield (
        f"examples: {len(lengths)} with {sum(lengths)} tokens (longest {max(lengths)}), in {len(batches)} microbatches "
        f"with {1 - sum(lengths) / shape:.1%} padding"
    )
    yield from prepared.notes


def _cost(config: Config, prepared: Prepared, batches: Sequence[MicroBatch]) -> Iterator[str]:
    needs = [METHODS[entry["method"]] for entry in config.attribution.values()]
    masks = sum(method.needs_heads for method in needs)
    shared = max((method.backwards for method in needs), default=0)
    per_example = sum(
        PAPER_LEVELS
        if config.evaluation.levels == "paper" and CURVES[family].levels is None
        else len(CURVES[family].levels or TENTHS)
        for family in curve_families(config)
    )
    n = prepared.examples.num_rows
    yield (
        f"passes: {len(batches)} captures of {len(needs)} methods (1 forward each, up to {shared + masks} backwards, "
        f"{masks} of them with a head mask)"
    )
    yield f"perturbed inputs: at most {n * per_example * len(needs)}, equal ones run once"


def _later(
    config: Config,
    prepared: Prepared,
    setting: Setting,
    store: Store,
    predicting: StagePlan,
    finding: StagePlan,
) -> Iterator[str]:
    """The stages whose keys need predictions and heads, when the store has these."""
    results = Results(store)
    predictions = in_order_of(prepared.examples, results.table(predicting.keys[load_model.STAGE], load_model.STAGE))
    kept = likely_gold(config, prepared.examples.to_pylist(), predictions.to_pylist())
    chosen = Prepared(prepared.model, prepared.tokenizer, prepared.dataset, prepared.examples.take(kept))
    found = results.tables(finding.keys.get(identify_heads.STAGE, []), identify_heads.STAGE)
    heads = given_heads(config) or joined(found)
    batches = plan_microbatches(chosen.examples, config.cluster, chosen.model.max_length)
    rows, guesses = chosen.examples.to_pylist(), predictions.take(kept).to_pylist()
    targets = targets_of(config, chosen.is_qa, rows, guesses)
    methods: Mapping[str, Mapping[str, Any]] = resolved_methods(config.attribution, heads, chosen.model)
    setting = Setting.of(config, chosen)
    scores = plan_attribution(config, setting, store, batches, targets, methods)
    yield _line(scores)
    yield _line(plan_evaluation(config, setting, store, batches, targets, scores.keys))


def _line(plan: StagePlan) -> str:
    return f"{plan.stage}: {plan.computed} results to compute in {len(plan.tasks)} tasks, {plan.reused} at hand"
