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
from pipeline.arms import BASE, Arm, compared
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
    projected_makings,
    student_makings,
    trained,
    training_of,
    values_in,
)

if TYPE_CHECKING:
    from pipeline.experiment import Experiment

STUDY, PROJECTED = "students", "projected"
FIRST = "first_sentences"  # the arm that takes these, trained on nothing
Tasks = dict[Arm, Task]
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


def training(
    experiment: Experiment, file: PatternFile, documents: Documents
) -> Generator[StagePlan, None, list[Trained]]:
    """Train and test every arm of each study with every seed."""
    for key, table in documents.stored.values():
        experiment.keep(key, table, train_student.DOCUMENTS)
    tables: dict[str, pa.Table] = {}
    for plan in plans(experiment, file, documents):
        tables |= yield from experiment.whole(plan)
    found = []
    for study, tasks in studies(experiment, file, documents).items():
        found.append((yield from _reached(experiment, study, tasks, tables, documents)))
    return found


def _reached(
    experiment: Experiment, study: str, tasks: Tasks, tables: Mapping[str, pa.Table], documents: Documents
) -> Generator[StagePlan, None, Trained]:
    """What the arms of a study reached, and what they cost."""
    asked = experiment.config.students
    values = {arm: values_in(tables[task.id], METRICS) for arm, task in tasks.items()}
    if study == STUDY:
        first = _first_sentences(documents.test, asked.sentences)
        values = {**{(FIRST, seed): first for seed in asked.seeds}, **values}
    items = [str(number) for number in range(len(documents.test))]
    found = compared(values, items, METRICS, experiment.config.evaluation.bootstrap_samples)
    explained = _explained(experiment, tasks, tables)
    cost = yield from costing(experiment, makings_of(tasks, "student"), _measured(asked, documents))
    return trained(study, (found, *explained, cost), tasks, tables, asked.keep)


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
    """Plans of a task for each arm and seed; students come behind those whose logits or weights they read."""

    def plan(later: bool) -> StagePlan:
        tasks = tasks_of(experiment, file, documents)
        return plan_trained(experiment, train_student.STAGE, [each for each in tasks if _reads(each) == later])

    asked = experiment.config.students
    return [partial(plan, later) for later in ((False, True) if asked.distilled or asked.projected else (False,))]


def _reads(task: Task) -> bool:
    student: Student = task.payload["student"]
    return student.taught_by is not None or student.begins_as is not None


def tasks_of(experiment: Experiment, file: PatternFile, documents: Documents) -> list[Task]:
    """Of all studies; what others read comes before them."""
    return [task for tasks in studies(experiment, file, documents).values() for task in tasks.values()]


def studies(experiment: Experiment, file: PatternFile, documents: Documents) -> dict[str, Tasks]:
    """The tasks of each study by arm."""
    asked, make = experiment.config.students, partial(_task, experiment, documents)
    tasks: Tasks = {}
    projected: Tasks = {}
    for seed in asked.seeds:
        plain, makings = training_of(asked, seed), student_makings(asked, file, SENTENCES, seed)
        if asked.distilled:
            slower = replace(plain, recipe=Recipe(learning_rate=asked.teacher_learning_rate))
            tasks[TEACHER, seed] = make(Making(SENTENCES, None, seed, None), slower, teaches=True)
        for arm, making in makings.items():
            tasks[arm, seed] = make(making, plain, keep=arm == BASE and asked.projected > 0)
        if asked.distilled:
            taught = replace(plain, distilled=asked.distilled)
            teacher = tasks[TEACHER, seed].id
            tasks |= {(arm, seed): make(makings[of], taught, taught_by=teacher) for arm, of in DISTILLED.items()}
        if asked.projected:
            base = tasks[BASE, seed].id
            beside = projected_makings(asked, file, SENTENCES, seed)
            projected |= {(arm, seed): make(making, plain, begins_as=base) for arm, making in beside.items()}
    return {STUDY: tasks, **({PROJECTED: projected} if asked.projected else {})}


def _task(
    experiment: Experiment,
    documents: Documents,
    making: Making,
    training: Training,
    *,
    keep: bool = False,
    **more: Any,
) -> Task:
    """keep: whether its files are kept whatever the configuration says, for those that begin as it."""
    asked = experiment.config.students
    how: dict[str, Any] = {"scoring": scoring_of(experiment), "explained": asked.explained} if asked.explained else {}
    student = Student(making, training, asked.sentences, **how, **more)
    weight = len(documents.train) * training.epochs
    return train_student.task_of(experiment.setting, documents.keys, student, weight, keep=keep or asked.keep)


def _first_sentences(documents: Sequence[Document], sentences: int) -> Floats:
    scores = [[-float(place) for place in range(len(document.sentences))] for document in documents]
    found = values_of(scores, documents, sentences)
    return np.array([found[name] for name in METRICS])
