"""How long patterns are measured and students are trained, from a few texts and a few steps of each training."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

import pyarrow as pa

from attribution.patterns.schema import PatternFile
from pipeline import classifiers, students
from pipeline.execution import Executor
from pipeline.execution.task import Task
from pipeline.experiment import Experiment
from pipeline.microbatch import MicroBatch, plan_microbatches
from pipeline.other_texts import OtherTexts
from pipeline.pattern_texts import PatternTexts
from pipeline.samples import beginnings, done, extended, samples_of
from pipeline.schedule import Ledger, StagePlan
from pipeline.stages import load_model, measure_patterns, train_classifier, train_student
from pipeline.store import Store
from pipeline.students import Documents
from pipeline.study_patterns import plan_masses

STEPS, TESTS = (1, 3), (1, 9)  # batches that are trained on, and texts that are tested, in a probe: few and more


class Size(NamedTuple):
    """How much a student is trained and tested, and of how many documents its choice is explained besides."""

    batches: int
    tests: int
    explained: int = 0


FEW = Size(STEPS[0], TESTS[0])
PROBES = (FEW, FEW, Size(STEPS[1], TESTS[0]), Size(STEPS[0], TESTS[1]))  # the first of an arm warms up
EXPLAINED = Size(STEPS[0], TESTS[1], TESTS[1])  # where choices are explained, after the others


def pattern_seconds(experiment: Experiment, store: Store, executor: Executor) -> dict[str, float]:
    """Seconds by stage; nothing for a run without patterns."""
    asked = experiment.patterns
    if asked is None:
        return {}
    on = asked.measured_on(experiment)
    found = {measure_patterns.STAGE: _measuring(experiment, asked.file, on, store, executor)}
    if asked.documents is not None:
        found[train_student.STAGE] = _students(experiment, asked.file, asked.documents, store, executor)
    if asked.texts is not None:
        found[train_classifier.STAGE] = _classifiers(experiment, asked.file, asked.texts, store, executor)
    return found


def teacher_seconds(experiment: Experiment, store: Store, executor: Executor) -> float:
    """What the model of the run needs to teach classifiers; `_classifiers` has stored their texts."""
    texts = experiment.patterns and experiment.patterns.texts
    if not texts or not experiment.config.students.texts_distilled:
        return 0.0
    batches = beginnings(texts.batches)
    plan = StagePlan(load_model.STAGE, [load_model.task_of(texts.setting, each) for each in batches])
    samples = samples_of(done(plan, executor), batches, (load_model.STAGE,))
    return extended(samples, load_model.STAGE, texts.batches)


def _measuring(experiment: Experiment, file: PatternFile, on: PatternTexts, store: Store, executor: Executor) -> float:
    """All patterns on a few texts in the model of the run, extended to all texts and to the random models."""
    probed = _like(experiment, store)
    few = replace(on, batches=beginnings(on.batches))
    probed.config = replace(probed.config, patterns=replace(probed.config.patterns, random_seeds=[]))
    for key, table, stage in on.stored():
        store.put(key, table, stage)
    samples = samples_of(done(plan_masses(probed, file, few), executor), few.batches, (measure_patterns.STAGE,))
    models = 1 + len(experiment.config.patterns.random_seeds)
    return models * extended(samples, measure_patterns.STAGE, on.batches)


def _students(
    experiment: Experiment, file: PatternFile, documents: Documents, store: Store, executor: Executor
) -> float:
    asked = experiment.config.students
    size = asked.batch_size

    def tasks(probe: Size) -> Iterable[Task]:
        part = Documents(documents.train[: probe.batches * size], documents.test[: probe.tests])
        for key, table in part.stored.values():
            store.put(key, table, train_student.DOCUMENTS)
        return students.tasks_of(_one_epoch(experiment, store, probe.explained), file, part)

    n_test = len(documents.test)
    whole = Size(_batches(len(documents.train), size), n_test, min(asked.explained, n_test))
    return _trained(experiment, whole, tasks, executor)


def _classifiers(
    experiment: Experiment, file: PatternFile, texts: OtherTexts, store: Store, executor: Executor
) -> float:
    size, examples = experiment.config.students.batch_size, texts.prepared.examples
    store.put(texts.prepared.examples_key, examples, "examples")  # that the teacher reads

    def tasks(probe: Size) -> Iterable[Task]:
        probed = _one_epoch(experiment, store)
        probed.batches = [_tested(experiment.batches, probe.tests)]
        part = _part(probed, texts, examples.slice(0, probe.batches * size))
        store.put(part.prepared.examples_key, part.prepared.examples, "examples")
        *teaching, _ = classifiers.plans(probed, file, part)
        for plan in teaching:  # timed by `teacher_seconds`
            done(plan(), executor)
        return classifiers.tasks_of(probed, file, part).values()

    return _trained(experiment, Size(_batches(examples.num_rows, size), _tests(experiment)), tasks, executor)


def _tests(experiment: Experiment) -> int:
    return sum(len(batch.rows) for batch in experiment.batches)


def _trained(experiment: Experiment, whole: Size, tasks: Callable[[Size], Iterable[Task]], executor: Executor) -> float:
    """Seconds of all arms and seeds: on a straight line in the steps and in what is tested."""
    asked = experiment.config.students
    probes = (*PROBES, EXPLAINED) if whole.explained else PROBES
    taken = [[_seconds(task, executor) for task in tasks(probe)] for probe in probes]
    arms = [_extended(whole, asked.epochs, *of_arm) for of_arm in zip(*taken[1:], strict=True)]
    return sum(arms) * len(asked.seeds)


def _extended(
    whole: Size, epochs: int, few: float, trained: float, tested: float, explained: float | None = None
) -> float:
    """From what a probe took, and what more steps, more tests and explanations of the latter took."""
    a_step = max(0.0, trained - few) / (STEPS[1] - STEPS[0])
    a_test = max(0.0, tested - few) / (TESTS[1] - TESTS[0])
    a_choice = 0.0 if explained is None else max(0.0, explained - tested) / EXPLAINED.explained
    rest = max(0.0, few - a_step * FEW.batches - a_test * FEW.tests)
    return rest + a_step * whole.batches * epochs + a_test * whole.tests + a_choice * whole.explained


def _seconds(task: Task, executor: Executor) -> float:
    ((_, outcome),) = done(StagePlan(task.stage, [task]), executor)
    return outcome.seconds


def _like(experiment: Experiment, store: Store) -> Experiment:
    """The experiment in the store that is thrown away."""
    probed = copy.copy(experiment)
    probed.ledger = Ledger(store)
    return probed


def _one_epoch(experiment: Experiment, store: Store, explained: int = 0) -> Experiment:
    """The same with one seed and an epoch, and so many choices of sentences explained."""
    probed, asked = _like(experiment, store), experiment.config.students
    fewer = replace(asked, seeds=asked.seeds[:1], epochs=1, explained=explained, keep=False)
    probed.config = replace(experiment.config, students=fewer)
    return probed


def _part(experiment: Experiment, texts: OtherTexts, examples: pa.Table) -> OtherTexts:
    prepared = replace(texts.prepared, examples=examples.combine_chunks())
    batches = plan_microbatches(examples, experiment.config.cluster, prepared.model.max_length)
    return replace(texts, prepared=prepared, batches=batches)


def _tested(batches: list[MicroBatch], number: int) -> MicroBatch:
    """A microbatch of this many examples of about the usual length; of fewer, where the usual one has no more."""
    usual = sorted(batches, key=lambda batch: batch.length)[len(batches) // 2]
    return replace(usual, rows=usual.rows[:number], items=usual.items[:number])


def _batches(examples: int, size: int) -> int:
    return -(-examples // size)
