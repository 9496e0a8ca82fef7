"""Students trained with patterns and with controls: plans of tasks, and from their results to what each arm reached."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from attribution.patterns.assignment import required, used
from attribution.patterns.controls import arms
from attribution.patterns.schema import STUDENT, PatternFile
from attribution.patterns.students import Recipe, StudentShape
from attribution.patterns.training import Training
from evaluation.injections import ArmComparison
from evaluation.statistics.moments import Floats
from evaluation.summaries import oracle_sentences, rouge
from pipeline.arms import BASE, PATTERNS, Arm, compared
from pipeline.config import Config, StudentsConfig
from pipeline.data.summaries import Document, load_documents
from pipeline.execution.task import Task
from pipeline.keys import digest
from pipeline.schedule import StagePlan, plan_whole
from pipeline.schemas import DOCUMENTS, LOSSES
from pipeline.stages import train_student
from pipeline.stages.train_student import Student, values_of

if TYPE_CHECKING:
    from pipeline.experiment import Experiment

STUDY = "students"
FIRST = "first_sentences"  # the arm that takes these, trained on nothing
TEACHER = "teacher"
DISTILLED = {"distilled": BASE, "distilled_patterns": PATTERNS}  # arms with a teacher, and what they are otherwise
METRICS = {"rouge1": True, "rouge2": True, "rougeLsum": True, "hit": True, "reciprocal_rank": True}

Trained = Generator[StagePlan, None, tuple[ArmComparison, pa.Table]]


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
    return [_marked(document) for document in load_documents(Path(path).expanduser(), limit, key=key)]


def _marked(document: Document) -> Document:
    if document.oracle is not None:
        return document
    return document._replace(oracle=tuple(oracle_sentences(document.sentences, document.references)))


def _stored(documents: Sequence[Document]) -> tuple[str, pa.Table]:
    table = pa.Table.from_pylist([document._asdict() for document in documents], schema=DOCUMENTS)
    return digest({"documents": table.to_pylist()}), table


def training(experiment: Experiment, file: PatternFile, documents: Documents) -> Trained:
    """Train and test every arm with every seed; what they reached, and their losses."""
    for key, table in documents.stored.values():
        experiment.keep(key, table, train_student.DOCUMENTS)
    tables: dict[str, pa.Table] = {}
    for plan in plans(experiment, file, documents):
        tables |= yield from experiment.whole(plan)
    by_arm = {arm: tables[task.id] for arm, task in tasks_of(experiment, file, documents).items()}
    asked = experiment.config.students
    first = _first_sentences(documents.test, asked.sentences)
    values = {(FIRST, seed): first for seed in asked.seeds} | {arm: _values(table) for arm, table in by_arm.items()}
    items = [str(number) for number in range(len(documents.test))]
    found = compared(values, items, METRICS, experiment.config.evaluation.bootstrap_samples)
    return found, pa.concat_tables([_losses(arm, table) for arm, table in by_arm.items()])


def plans(experiment: Experiment, file: PatternFile, documents: Documents) -> list[Callable[[], StagePlan]]:
    """Plans of a task for each arm and seed; students come behind the teachers whose logits they read."""

    def plan(taught: bool) -> StagePlan:
        tasks = tasks_of(experiment, file, documents).values()
        chosen = [task for task in tasks if (task.payload["student"].taught_by is not None) == taught]
        return plan_whole(experiment.ledger, train_student.STAGE, chosen)

    return [partial(plan, taught) for taught in ((False, True) if experiment.config.students.distilled else (False,))]


def tasks_of(experiment: Experiment, file: PatternFile, documents: Documents) -> dict[Arm, Task]:
    """The tasks by arm."""
    asked, own = experiment.config.students, used(file)

    def task(student: Student) -> Task:
        weight = len(documents.train) * student.training.epochs
        return train_student.task_of(experiment.setting, documents.keys, student, weight)

    tasks: dict[Arm, Task] = {}
    for seed in asked.seeds:
        files = arms(own, asked.layers, asked.heads, seed)
        trained = {arm: _student(asked, seed, each, own) for arm, each in files.items()}
        if asked.distilled:
            tasks[TEACHER, seed] = task(_teacher(asked, seed))
            trained |= _distilled(asked, trained, tasks[TEACHER, seed].id)
        tasks |= {(arm, seed): task(student) for arm, student in trained.items()}
    return tasks


def _student(asked: StudentsConfig, seed: int, file: PatternFile | None, like: PatternFile) -> Student:
    """A small one, or the model of the run where the file is for projected attention."""
    small = required(like).target == STUDENT
    shape = StudentShape(asked.layers, asked.heads, asked.width) if small else None
    return Student(shape, _training(asked, seed), None if file is None else file.plain(), asked.sentences)


def _teacher(asked: StudentsConfig, seed: int) -> Student:
    training = replace(_training(asked, seed), recipe=Recipe(learning_rate=asked.teacher_learning_rate))
    return Student(None, training, None, asked.sentences, teaches=True)


def _distilled(asked: StudentsConfig, trained: Mapping[str, Student], teacher: str) -> dict[str, Student]:
    """Students of the teacher, without patterns and with them."""
    return {
        arm: replace(trained[of], training=replace(trained[of].training, distilled=asked.distilled), taught_by=teacher)
        for arm, of in DISTILLED.items()
    }


def _training(asked: StudentsConfig, seed: int) -> Training:
    recipe = Recipe(learning_rate=asked.learning_rate)
    return Training(asked.epochs, asked.batch_size, asked.max_length, seed, recipe=recipe)


def _first_sentences(documents: Sequence[Document], sentences: int) -> Floats:
    scores = [[-float(place) for place in range(len(document.sentences))] for document in documents]
    found = values_of(scores, documents, sentences)
    return np.array([found[name] for name in METRICS])


def _values(table: pa.Table) -> Floats:
    """[K, n]: of `METRICS`."""
    return np.stack([table.filter(pc.field("metric") == name)["value"].to_numpy() for name in METRICS])


def _losses(arm: Arm, table: pa.Table) -> pa.Table:
    rows = table.filter(pc.field("metric") == "loss").to_pylist()
    named = [{"arm": arm[0], "seed": arm[1], "epoch": row["number"] + 1, "loss": row["value"]} for row in rows]
    return pa.Table.from_pylist(named, schema=LOSSES)
