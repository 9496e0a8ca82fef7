"""What a run would do: examples, passes and results at hand, counted before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from attribution.methods.registry import METHODS
from evaluation import CURVES
from evaluation.levels import TENTHS
from pipeline.config import Config
from pipeline.data import load_dataset
from pipeline.experiment import Experiment
from pipeline.microbatch import MicroBatch
from pipeline.models.minilm import minilm_folder
from pipeline.prepare import Prepared
from pipeline.schedule import Ledger, StagePlan, curve_families
from pipeline.store import Store

PAPER_LEVELS = 9


def describe_plan(config: Config) -> str:
    """The plan of a run in lines of text. Reads model, data and store; computes and writes nothing."""
    if config.model.source == "minilm_reviews" and not minilm_folder(Path(config.paths.models)).is_dir():
        dataset = load_dataset(config.dataset)
        return (
            f"model minilm_reviews: fine-tuned first, in about a minute; the plan counts tokens and passes after that\n"
            f"examples: {len(dataset.examples)} of {dataset.name}, {len(config.attribution)} methods"
        )
    experiment = Experiment(config, Ledger(Store(config.paths.store)), say=lambda text: None)
    experiment.check()
    prepared, batches = experiment.prepared, experiment.batches
    return "\n".join([*_facts(prepared, batches), *_cost(config, prepared, batches), *_stages(experiment)])


def _stages(experiment: Experiment) -> Iterator[str]:
    """A line for each stage, as far as the keys are known: those of the last two need predictions and heads."""
    first = [experiment.predicting(), experiment.finding()]
    yield from map(_line, first)
    if any(plan.tasks for plan in first):
        results = len(experiment.batches) * len(experiment.config.attribution)
        yield f"attribute: up to {results} results; known once heads are found"
        return
    for _ in experiment.before_explaining():
        pass  # nothing to compute: predictions and heads are read
    scores = experiment.attributing()
    yield _line(scores)
    yield _line(experiment.evaluating(scores))


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


def _line(plan: StagePlan) -> str:
    return f"{plan.stage}: {plan.computed} results to compute in {len(plan.tasks)} tasks, {plan.reused} at hand"
