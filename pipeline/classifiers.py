"""Classifiers of texts trained with patterns and with controls, and tested by the examples of the run."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from attribution.errors import InputError
from attribution.patterns.schema import PatternFile
from attribution.patterns.training import Training
from evaluation.statistics.moments import Floats
from pipeline.arm_costs import costed_examples, costing
from pipeline.arm_models import OWN, Making
from pipeline.arms import Arm, compared
from pipeline.collect import in_order_of
from pipeline.config import Config
from pipeline.execution.task import Task
from pipeline.injected_explanations import metrics_of, scoring, scoring_of
from pipeline.mixing_steps import healthy
from pipeline.other_texts import OtherTexts, Wanted, other_texts
from pipeline.prepare import Prepared
from pipeline.schedule import StagePlan, plan_whole
from pipeline.stages import load_model, train_classifier
from pipeline.stages.train_classifier import ACCURACY, Classifier
from pipeline.trained import (
    DISTILLED,
    TEACHER,
    Trained,
    makings_of,
    plan_trained,
    student_makings,
    trained,
    training_of,
    values_in,
)

if TYPE_CHECKING:
    from pipeline.experiment import Experiment

STUDY = "classifiers"
EVERY = 10**9  # texts, where no limit is given


def class_texts(config: Config, prepared: Prepared, device: str) -> OtherTexts | None:
    """The texts that classifiers learn from; None where none is trained. InputError where labels are missing."""
    asked = config.students
    if asked.texts is None:
        return None
    wanted = Wanted(asked.texts, "students.texts", asked.texts_limit or EVERY, True, "classifiers are trained on texts")
    texts = other_texts(config, prepared, device, wanted)
    if prepared.model.task != "classification":
        raise InputError(
            f"conf error: students.texts is for classifiers; the model of the run is for {prepared.model.task}."
        )
    for name, examples in (("students.texts", texts.prepared.examples), ("dataset", prepared.examples)):
        if examples["label"].null_count:
            raise InputError(
                f"conf error: {name} has texts without a label; classifiers are trained and tested by labels."
            )
    return texts


def training(experiment: Experiment, file: PatternFile, texts: OtherTexts) -> Generator[StagePlan, None, Trained]:
    """Train and test every arm with every seed; the teacher is the model of the run."""
    experiment.store_texts(texts.prepared)
    for plan in plans(experiment, file, texts):
        tables = yield from experiment.whole(plan)
    asked = experiment.config.students
    teacher: dict[Arm, Any] = {(TEACHER, seed): None for seed in asked.seeds if asked.texts_distilled}
    explained = yield from scoring(experiment, teacher)
    tasks = tasks_of(experiment, file, texts)
    metrics = measures(experiment.config)
    values = {arm: values_in(tables[task.id], metrics) for arm, task in tasks.items()}
    examples = healthy(experiment)
    items = [item for batch in experiment.batches for item in batch.items]
    place = {item: at for at, item in enumerate(examples["item_id"].to_pylist())}
    order = [place[item] for item in items]
    values |= {
        arm: np.concatenate([_accuracy(experiment, examples), *explained.of(arm, examples)])[:, order]
        for arm in teacher
    }
    found = compared(values, items, metrics, experiment.config.evaluation.bootstrap_samples)
    makings = makings_of(tasks, "classifier") | {arm: Making(OWN, None, arm[1], None) for arm in teacher}
    cost = yield from costing(experiment, makings, costed_examples(experiment))
    return trained(STUDY, (found, cost), tasks, tables, asked.keep)


def _accuracy(experiment: Experiment, examples: pa.Table) -> Floats:
    """[1, n]: of the model of the run."""
    found = in_order_of(examples, experiment.predictions)["predicted"].to_numpy()
    return np.array(found == examples["label"].to_numpy(), dtype=np.float64)[None]


def measures(config: Config) -> dict[str, bool]:
    """What is measured of each example, and whether more of it is better."""
    return {ACCURACY: True, **({} if config.patterns.explained is None else metrics_of(config))}


def plans(experiment: Experiment, file: PatternFile, texts: OtherTexts) -> list[Callable[[], StagePlan]]:
    """What the teacher says of the texts, where there is one, then a task for each arm and seed."""
    ledger = experiment.ledger

    def teaching() -> StagePlan:
        return plan_whole(
            ledger, load_model.STAGE, [load_model.task_of(texts.setting, batch) for batch in texts.batches]
        )

    def learning() -> StagePlan:
        return plan_trained(experiment, train_classifier.STAGE, list(tasks_of(experiment, file, texts).values()))

    return [*((teaching,) if experiment.config.students.texts_distilled else ()), learning]


def tasks_of(experiment: Experiment, file: PatternFile, texts: OtherTexts) -> dict[Arm, Task]:
    """The tasks by arm."""
    asked, setting, key = experiment.config.students, experiment.setting, texts.prepared.examples_key
    how = None if experiment.config.patterns.explained is None else scoring_of(experiment)
    taught_by = tuple((load_model.STAGE, load_model.key_of(texts.setting, batch)) for batch in texts.batches)

    def task(making: Making, training: Training, **more: Any) -> Task:
        classifier = Classifier(making, training, scoring=how, **more)
        weight = texts.prepared.examples.num_rows * training.epochs
        return train_classifier.task_of(setting, key, experiment.batches, classifier, weight, keep=asked.keep)

    tasks: dict[Arm, Task] = {}
    for seed in asked.seeds:
        makings, plain = student_makings(asked, file, OWN, seed), training_of(asked, seed)
        tasks |= {(arm, seed): task(making, plain) for arm, making in makings.items()}
        if asked.texts_distilled:
            taught = replace(plain, distilled=asked.texts_distilled, temperature=asked.temperature)
            tasks |= {(arm, seed): task(makings[of], taught, taught_by=taught_by) for arm, of in DISTILLED.items()}
    return tasks
