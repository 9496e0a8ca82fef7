"""Patterns put into heads of the model without training: do predictions change less than under controls?"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from attribution.patterns.assignment import resolved, used
from attribution.patterns.controls import arms
from attribution.patterns.relevance import PatternRelevance
from attribution.patterns.schema import BY_RELEVANCE, IN_PLACE, Assignment, Injection, PatternFile
from evaluation.injections import ArmComparison
from evaluation.statistics.moments import Bools, Floats
from pipeline.arm_costs import costed_examples, costing
from pipeline.arm_models import OWN, Making
from pipeline.arms import Arm, compared
from pipeline.collect import in_order_of
from pipeline.execution.task import Task
from pipeline.injected_explanations import scoring
from pipeline.mixing_steps import healthy
from pipeline.schedule import StagePlan, plan_whole
from pipeline.stages import inject_patterns

if TYPE_CHECKING:
    from pipeline.experiment import Experiment

TINY = 1e-12  # what a probability of zero counts as

Compared = Generator[StagePlan, None, list[ArmComparison]]


def comparing(experiment: Experiment, file: PatternFile, relevance: PatternRelevance) -> Compared:
    """Put patterns and controls into the model; nothing where no head is significantly relevant to any of them."""
    injected = placed(experiment, file, relevance)
    if injected is None:
        experiment.say("no head is significantly relevant to any pattern: none is put in place")
        return []
    files = files_of(experiment, injected)
    tables = yield from experiment.whole(lambda: plan_arms(experiment, files))
    predicted = {arm: _joined(experiment, file, tables) for arm, file in files.items()}
    explained = yield from scoring(experiment, files)
    examples = healthy(experiment)  # what turned out impossible to compute is in none of them any more
    base = in_order_of(examples, experiment.predictions)
    values = {
        arm: np.concatenate([_values(examples, base, in_order_of(examples, found)), *explained.of(arm, examples)])
        for arm, found in predicted.items()
    }
    better = {**measures(examples, base), **explained.higher_is_better}
    items, samples = examples["item_id"].to_pylist(), experiment.config.evaluation.bootstrap_samples
    makings = {(arm, seed): Making(OWN, None, seed, each) for (arm, seed), each in files.items()}
    cost = yield from costing(experiment, makings, costed_examples(experiment))
    return [compared(values, items, better, samples), cost]


def placed(experiment: Experiment, file: PatternFile, relevance: PatternRelevance) -> PatternFile | None:
    """The heads that the file says, where it says so for a model as it is; else the most relevant ones."""
    if file.inject is None or file.inject.target != IN_PLACE:
        file = replace(file, inject=Injection(Assignment(BY_RELEVANCE, most=experiment.config.patterns.most)))
    assert file.inject is not None
    if file.inject.assign.strategy == BY_RELEVANCE and not relevance.kept:
        return None
    return used(resolved(file, *shape_of(experiment), relevance))


def shape_of(experiment: Experiment) -> tuple[int, int]:
    """Layers, and heads in each."""
    return experiment.prepared.model.n_layers, experiment.prepared.model.n_heads


def files_of(experiment: Experiment, file: PatternFile) -> dict[Arm, Mapping[str, Any] | None]:
    """What each arm is made of; None for the model as it is."""
    return {
        (arm, seed): None if each is None else each.plain()
        for seed in experiment.config.patterns.control_seeds
        for arm, each in arms(file, *shape_of(experiment), seed).items()
    }


def plan_arms(experiment: Experiment, files: Mapping[Arm, Mapping[str, Any] | None]) -> StagePlan:
    """A task for each microbatch and model; arms that do not depend on the seed share theirs."""
    tasks = {task.id: task for file in files.values() for task in _tasks(experiment, file)}
    return plan_whole(experiment.ledger, inject_patterns.STAGE, tasks.values())


def _tasks(experiment: Experiment, file: Mapping[str, Any] | None) -> list[Task]:
    batches = [] if file is None else experiment.batches
    return [inject_patterns.task_of(experiment.setting, batch, file or {}) for batch in batches]


def _joined(experiment: Experiment, file: Mapping[str, Any] | None, tables: Mapping[str, pa.Table]) -> pa.Table:
    """What an arm predicts."""
    tasks = _tasks(experiment, file)
    return pa.concat_tables(tables[task.id] for task in tasks) if tasks else experiment.predictions


def measures(examples: pa.Table, base: pa.Table) -> dict[str, bool]:
    """What is measured of each example, and whether more of it is better: of classes more than of spans."""
    known = {"same_decision": True}
    if base["predicted_end"].null_count == base.num_rows:
        known["divergence"] = False
        known |= {"accuracy": True} if not examples["label"].null_count else {}
    return known


def _values(examples: pa.Table, base: pa.Table, found: pa.Table) -> Floats:
    """[K, n]: of `measures`; the divergence is the relative entropy of what the base predicts, in nats."""
    own, other = (np.array(each["probabilities"].to_pylist(), dtype=np.float64).clip(TINY) for each in (base, found))
    rows = {
        "same_decision": _equal(found, base, "predicted") & _equal(found, base, "predicted_end"),
        "divergence": (own * np.log(own / other)).sum(1),
        "accuracy": np.array(found["predicted"].to_pylist()) == np.array(examples["label"].to_pylist()),
    }
    return np.stack([rows[name].astype(np.float64) for name in measures(examples, base)])


def _equal(one: pa.Table, other: pa.Table, column: str) -> Bools:
    pairs = zip(one[column].to_pylist(), other[column].to_pylist(), strict=True)
    return np.array([first == second for first, second in pairs], dtype=bool)
