"""Students that choose sentences, with patterns and with controls: plans of tasks, and what each arm reached."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from attribution.errors import InputError
from attribution.patterns.schema import PatternFile
from attribution.patterns.students import Recipe
from attribution.patterns.training import Training
from evaluation.injections import ArmComparison
from evaluation.statistics.moments import Floats
from evaluation.summaries import oracle_sentences, rouge
from pipeline.arm_costs import COSTED, costing
from pipeline.arm_models import SENTENCES, Making
from pipeline.arms import Arm, compared
from pipeline.config import Config, StudentsConfig
from pipeline.data.summaries import Document, load_documents
from pipeline.execution.task import Task
from pipeline.injected_explanations import metrics_of, scoring_of
from pipeline.keys import digest
from pipeline.schedule import StagePlan
from pipeline.schemas import DOCUMENTS
from pipeline.stages import train_student
from pipeline.stages.measure_costs import Measured
from pipeline.stages.train_student import Student, values_of
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

STUDY = "students"
FIRST = "first_sentences"  # the arm that takes these, trained on nothing
METRICS = {"rouge1": True, "rouge2": True, "rougeLsum": True, "hit": True, "reciprocal_rank": True}


@dataclass(frozen=True)
class Documents:
    """What students learn from, and what they are tested by."""

    train: Sequence[Document]
    test: Sequence[Document]

    @cached_property
    def stored(self) -> dict[str, tuple[str, pa.Table]]:
        """Key and table of each split."""
        return {split: _stored(each) for split, each in (("train", self.train), ("test", self.test))}

    @property
    def keys(self) -> dict[str, str]:
        """Key of each split."""
        return {split: key for split, (key, _) in self.stored.items()}


def documents_of(config: Config) -> Documents | None:
    """The documents of a run, with an oracle's sentences; None where no student is trained."""
    asked = config.students
    if asked.train is None or asked.test is None:
        return None
    rouge("a", ["a"])  # InputError now and not behind hours of training, where its package is not installed
    return Documents(
        _loaded(asked.train, asked.train_limit, "students.train"),
        _loaded(asked.test, asked.test_limit, "students.test"),
    )


def _loaded(path: str, limit: int | None, key: str) -> list[Document]:
    found = [_marked(document) for document in load_documents(Path(path).expanduser(), limit, key=key)]
    if helpless := next((document.id for document in found if not document.oracle), None):
        raise InputError(
            f"conf error: {key}={path}: no sentence of document {helpless} helps its summary; leave it out."
        )
    return found


def _marked(document: Document) -> Document:
    if document.oracle is not None:
        return document
    return document._replace(oracle=tuple(oracle_sentences(document.sentences, document.references)))


def _stored(documents: Sequence[Document]) -> tuple[str, pa.Table]:
    table = pa.Table.from_pylist([document._asdict() for document in documents], schema=DOCUMENTS)
    return digest({"documents": table.to_pylist()}), table


def training(experiment: Experiment, file: PatternFile, documents: Documents) -> Generator[StagePlan, None, Trained]:
    """Train and test every arm with every seed."""
    for key, table in documents.stored.values():
        experiment.keep(key, table, train_student.DOCUMENTS)
    tables: dict[str, pa.Table] = {}
    for plan in plans(experiment, file, documents):
        tables |= yield from experiment.whole(plan)
    tasks = tasks_of(experiment, file, documents)
    asked = experiment.config.students
    first = _first_sentences(documents.test, asked.sentences)
    values = {(FIRST, seed): first for seed in asked.seeds}
    values |= {arm: values_in(tables[task.id], METRICS) for arm, task in tasks.items()}
    items = [str(number) for number in range(len(documents.test))]
    found = compared(values, items, METRICS, experiment.config.evaluation.bootstrap_samples)
    explained = _explained(experiment, tasks, tables)
    cost = yield from costing(experiment, makings_of(tasks, "student"), _measured(asked, documents))
    return trained(STUDY, (found, *explained, cost), tasks, tables, asked.keep)


def _explained(
    experiment: Experiment, tasks: Mapping[Arm, Task], tables: Mapping[str, pa.Table]
) -> list[ArmComparison]:
    """What explanations of the choices of each arm are worth, where they are explained."""
    if not experiment.config.students.explained:
        return []
    better = metrics_of(experiment.config)
    values = {arm: values_in(tables[task.id], better) for arm, task in tasks.items()}
    items = [str(number) for number in range(next(iter(values.values())).shape[1])]
    return [compared(values, items, better, experiment.config.evaluation.bootstrap_samples)]


def _measured(asked: StudentsConfig, documents: Documents) -> Measured:
    number = min(COSTED, len(documents.test))
    return Measured(documents.keys["test"], train_student.DOCUMENTS, number, asked.max_length)


def plans(experiment: Experiment, file: PatternFile, documents: Documents) -> list[Callable[[], StagePlan]]:
    """Plans of a task for each arm and seed; students come behind the teachers whose logits they read."""

    def plan(taught: bool) -> StagePlan:
        tasks = tasks_of(experiment, file, documents).values()
        chosen = [task for task in tasks if (task.payload["student"].taught_by is not None) == taught]
        return plan_trained(experiment, train_student.STAGE, chosen)

    return [partial(plan, taught) for taught in ((False, True) if experiment.config.students.distilled else (False,))]


def tasks_of(experiment: Experiment, file: PatternFile, documents: Documents) -> dict[Arm, Task]:
    """The tasks by arm."""
    asked = experiment.config.students
    how: dict[str, Any] = {"scoring": scoring_of(experiment), "explained": asked.explained} if asked.explained else {}

    def task(making: Making, training: Training, **more: Any) -> Task:
        student = Student(making, training, asked.sentences, **how, **more)
        weight = len(documents.train) * training.epochs
        return train_student.task_of(experiment.setting, documents.keys, student, weight, keep=asked.keep)

    tasks: dict[Arm, Task] = {}
    for seed in asked.seeds:
        plain, makings = training_of(asked, seed), student_makings(asked, file, SENTENCES, seed)
        if asked.distilled:
            slower = replace(plain, recipe=Recipe(learning_rate=asked.teacher_learning_rate))
            tasks[TEACHER, seed] = task(Making(SENTENCES, None, seed, None), slower, teaches=True)
        tasks |= {(arm, seed): task(making, plain) for arm, making in makings.items()}
        if asked.distilled:
            taught = replace(plain, distilled=asked.distilled)
            teacher = tasks[TEACHER, seed].id
            tasks |= {(arm, seed): task(makings[of], taught, taught_by=teacher) for arm, of in DISTILLED.items()}
    return tasks


def _first_sentences(documents: Sequence[Document], sentences: int) -> Floats:
    scores = [[-float(place) for place in range(len(document.sentences))] for document in documents]
    found = values_of(scores, documents, sentences)
    return np.array([found[name] for name in METRICS])
