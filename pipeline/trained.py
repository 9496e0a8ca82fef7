"""What studies of trained arms have in common: what arms are made of, their training, and what is left of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from attribution.patterns.assignment import required, used
from attribution.patterns.controls import arms
from attribution.patterns.schema import PAL, STUDENT, PatternFile, Projection
from attribution.patterns.students import Recipe, StudentShape
from attribution.patterns.training import Training
from evaluation.injections import ArmComparison
from evaluation.statistics.moments import Floats
from pipeline.arm_models import Making
from pipeline.arms import BASE, PATTERNS, Arm, arms_table
from pipeline.config import StudentsConfig
from pipeline.execution.task import Task
from pipeline.schedule import StagePlan
from pipeline.schemas import ARMS, LOSSES
from pipeline.stages.train_student import kept_key

if TYPE_CHECKING:
    from pipeline.experiment import Experiment

TEACHER = "teacher"
DISTILLED = {"distilled": BASE, "distilled_patterns": PATTERNS}  # arms with a teacher, and what they are otherwise
KEPT = "kept"  # label of the files of models in a plan

Kept = tuple[str, str]  # stage and key of the files of a model


@dataclass(frozen=True)
class Trained:
    """What is left of a study: rows of its arms and losses, and models that are kept."""

    arms: pa.Table = field(default_factory=ARMS.empty_table)
    losses: pa.Table = field(default_factory=LOSSES.empty_table)
    kept: Mapping[str, Kept] = field(default_factory=dict)  # by folder


def trained(
    study: str, found: Iterable[ArmComparison], tasks: Mapping[Arm, Task], tables: Mapping[str, pa.Table], keep: bool
) -> Trained:
    """From comparisons of the arms and the tables of their tasks."""
    losses = [_losses(study, arm, tables[task.id]) for arm, task in tasks.items()]
    kept = {f"{study}/{arm}-{seed}": (task.stage, kept_key(task.id)) for (arm, seed), task in tasks.items()}
    rows = pa.concat_tables([arms_table(study, each) for each in found])
    return Trained(rows, pa.concat_tables(losses), kept if keep else {})


def student_makings(asked: StudentsConfig, file: PatternFile, head: str, seed: int) -> dict[str, Making]:
    """The arms without a teacher: small models, or the model of the run where the file is for projected attention."""
    own = used(file)
    return _makings(asked, own, head, shape_of(asked) if required(own).target == STUDENT else None, seed)


def projected_makings(asked: StudentsConfig, file: PatternFile, head: str, seed: int) -> dict[str, Making]:
    """The same patterns in projected attention beside a student's blocks, and their controls."""
    own = used(file)
    inject = replace(required(own), target=PAL, pal=Projection(asked.projected, asked.heads), dropout_on_fixed=False)
    return _makings(asked, replace(own, inject=inject), head, shape_of(asked), seed)


def shape_of(asked: StudentsConfig) -> StudentShape:
    """How large a student is."""
    return StudentShape(asked.layers, asked.heads, asked.width)


def _makings(
    asked: StudentsConfig, file: PatternFile, head: str, shape: StudentShape | None, seed: int
) -> dict[str, Making]:
    files = arms(file, asked.layers, asked.heads, seed)
    return {arm: Making(head, shape, seed, None if each is None else each.plain()) for arm, each in files.items()}


def training_of(asked: StudentsConfig, seed: int, **more: Any) -> Training:
    """How arms without a teacher are trained."""
    recipe = Recipe(learning_rate=asked.learning_rate)
    return Training(asked.epochs, asked.batch_size, asked.max_length, seed, recipe=recipe, **more)


def makings_of(tasks: Mapping[Arm, Task], name: str) -> dict[Arm, Making]:
    """What the models of tasks are made of; those that differ in what they learn from alone are there once."""
    return {arm: task.payload[name].making for arm, task in tasks.items() if arm[0] not in DISTILLED}


def plan_trained(experiment: Experiment, stage: str, tasks: Sequence[Task]) -> StagePlan:
    """The plan of tasks that have a second result where models are kept."""
    wanted = [dict(zip((stage, KEPT), task.results, strict=False)) for task in tasks]
    return experiment.ledger.plan(stage, wanted, lambda index, absent: tasks[index])


def values_in(table: pa.Table, metrics: Iterable[str]) -> Floats:
    """[K, n]: of these metrics."""
    return np.stack([table.filter(pc.field("metric") == name)["value"].to_numpy() for name in metrics])


def _losses(study: str, arm: Arm, table: pa.Table) -> pa.Table:
    rows = table.filter(pc.field("metric") == "loss").to_pylist()
    about = {"study": study, "arm": arm[0], "seed": arm[1]}
    named = [{**about, "epoch": row["number"] + 1, "loss": row["value"]} for row in rows]
    return pa.Table.from_pylist(named, schema=LOSSES)
