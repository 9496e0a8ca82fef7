"""Patterns in a run: how relevant every head is to them, and what models that follow them do, beside controls."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch

from attribution.errors import InputError
from attribution.patterns import PatternFile
from attribution.patterns.mass import QUERIES, PatternMass
from attribution.patterns.predicates import write_predicate
from attribution.patterns.relevance import PatternRelevance
from attribution.patterns.schema import IN_PLACE, PAL, STUDENT
from pipeline import classifiers, students
from pipeline.arm_lines import arm_lines
from pipeline.arms import arms_table
from pipeline.classifiers import class_texts
from pipeline.collect import in_order_of
from pipeline.config import Config
from pipeline.execution.task import Task
from pipeline.in_place import comparing
from pipeline.other_texts import OtherTexts
from pipeline.pattern_texts import PatternTexts, check_measurable, parsed_texts, require_told
from pipeline.prepare import Prepared
from pipeline.schedule import StagePlan
from pipeline.schemas import ARMS, LOSSES
from pipeline.stages import measure_patterns
from pipeline.students import Documents, documents_of
from pipeline.trained import Kept, Trained

if TYPE_CHECKING:
    from pipeline.experiment import Experiment

Label = tuple[int | None, str]  # seed of a random model, None for the model itself; name of a pattern


@dataclass(frozen=True)
class Asked:
    """What a run is to find out about patterns."""

    file: PatternFile
    documents: Documents | None = None  # that students choose sentences of
    texts: OtherTexts | None = None  # that classifiers learn from
    parsed: PatternTexts | None = None  # that patterns are measured on in place of the run's examples

    def facts(self) -> dict[str, Any]:
        """What decides it, for the signature of a run."""
        texts = self.texts and self.texts.prepared.examples_key
        own = {"patterns": self.file.plain(), "documents": self.documents and self.documents.keys, "texts": texts}
        return own if self.parsed is None else {**own, "trees": self.parsed.trees_key}

    def measured_on(self, experiment: Experiment) -> PatternTexts:
        """The texts that patterns are measured on."""
        return PatternTexts.of_run(experiment) if self.parsed is None else self.parsed


@dataclass(frozen=True)
class Studied:
    """What it found out."""

    tables: Mapping[str, pa.Table] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    kept: Mapping[str, Kept] = field(default_factory=dict)  # models, by folder


def asked_of(config: Config, prepared: Prepared, device: str) -> Asked | None:
    """The patterns of a run; None where it has none. Raises `InputError` for what a run cannot do with them."""
    path, described = config.patterns.path, config.patterns.described
    if path is None and not described:
        return None
    if path is None:
        where, file = "patterns.described", PatternFile.read(described, "patterns.described")
    else:
        where, file = f"patterns.path={path}", PatternFile.load(Path(path).expanduser())
    on_trees = parsed_texts(config, prepared, device)
    check_measurable(file, prepared, where, None if on_trees is None else on_trees.parsed)
    trained = [f"students.{name}" for name in ("train", "texts") if getattr(config.students, name)]
    for key in [*(["patterns.in_place=true"] if config.patterns.in_place else []), *trained]:
        require_told(file, prepared, f"{key}: {where}", "texts of a run have none: these can only be measured")
    target = file.inject and file.inject.target
    if trained and target not in (STUDENT, PAL):
        has = f"target: {target}" if target else "no inject"
        raise InputError(f"conf error: {trained[0]} needs inject.target: {STUDENT} or {PAL}; {where} has {has}.")
    if config.students.projected and target != STUDENT:
        raise InputError(f"conf error: students.projected needs inject.target: {STUDENT}; {where} has {target}.")
    return Asked(file, documents_of(config), class_texts(config, prepared, device), on_trees)


def studying(experiment: Experiment, asked: Asked) -> Generator[StagePlan, None, Studied]:
    """Measure, then put patterns into models, where that is asked for. Each plan is to be done before the next."""
    relevance = yield from measuring(experiment, asked)
    both = [PatternRelevance(relevance.mass, relevance.random, queries).to_table() for queries in QUERIES]
    found = []
    if experiment.config.patterns.in_place:
        compared = yield from comparing(experiment, asked.file, relevance)
        found += [Trained(arms_table(IN_PLACE, each)) for each in compared]
    if asked.documents is not None:
        found += yield from students.training(experiment, asked.file, asked.documents)
    if asked.texts is not None:
        found.append((yield from classifiers.training(experiment, asked.file, asked.texts)))
    tables = {"arms": pa.concat_tables([ARMS.empty_table(), *(each.arms for each in found)])}
    tables["losses"] = pa.concat_tables([LOSSES.empty_table(), *(each.losses for each in found)])
    made = {name: table for name, table in tables.items() if table.num_rows}
    lines = (*relevance.describe(), *arm_lines(tables["arms"]))
    kept = {folder: key for each in found for folder, key in each.kept.items()}
    return Studied({"patterns": pa.concat_tables(both), **made}, lines, kept)


def study_plans(experiment: Experiment) -> list[StagePlan]:
    """The plans of these steps that are known before any is done: which heads are relevant is known once measured."""
    asked = experiment.patterns
    if asked is None:
        return []
    plans = [] if asked.documents is None else students.plans(experiment, asked.file, asked.documents)
    plans += [] if asked.texts is None else classifiers.plans(experiment, asked.file, asked.texts)
    return [plan_masses(experiment, asked.file, asked.measured_on(experiment)), *(plan() for plan in plans)]


def measuring(experiment: Experiment, asked: Asked) -> Generator[StagePlan, None, PatternRelevance]:
    """The relevance of every head to every pattern, on the examples of the run or on sentences with trees."""
    experiment.store_texts(experiment.prepared)
    for table in asked.measured_on(experiment).stored():
        experiment.keep(*table)
    for note in asked.measured_on(experiment).described():
        experiment.note_down(note)

    def plan() -> StagePlan:
        return plan_masses(experiment, asked.file, asked.measured_on(experiment))

    tables = yield from experiment.whole(plan, every=True)
    keys, names = plan().keys, tuple(asked.file.patterns)
    examples = asked.measured_on(experiment).examples(experiment)
    shape = experiment.prepared.model.n_layers, experiment.prepared.model.n_heads
    masses = {
        seed: _mass(examples, shape, [[tables[key] for key in keys[seed, name]] for name in names], names)
        for seed in _models(experiment)
    }
    own = masses.pop(None)
    return PatternRelevance(own, tuple(masses.values()), experiment.config.patterns.queries)


def plan_masses(experiment: Experiment, file: PatternFile, on: PatternTexts) -> StagePlan:
    """A task for each model and microbatch, for the patterns that are not measured on it."""
    written = {name: write_predicate(pattern.pred) for name, pattern in file.patterns.items()}
    parsed = [(batch, on.trees(batch)) for batch in on.batches]
    places = [(seed, batch, trees) for seed in _models(experiment) for batch, trees in parsed]
    wanted = [
        {(seed, name): measure_patterns.key_of(on.setting, batch, each, seed, trees) for name, each in written.items()}
        for seed, batch, trees in places
    ]

    def task_of(index: int, absent: list[str]) -> Task:
        seed, batch, _ = places[index]
        by_key = {key: written[name] for (_, name), key in wanted[index].items()}
        asked = {key: by_key[key] for key in absent}
        return measure_patterns.task_of(on.setting, batch, asked, seed, on.trees_key)

    return experiment.ledger.plan(measure_patterns.STAGE, wanted, task_of)


def _models(experiment: Experiment) -> list[int | None]:
    return [None, *experiment.config.patterns.random_seeds]


def _mass(
    examples: pa.Table, shape: tuple[int, int], tables: list[list[pa.Table]], names: tuple[str, ...]
) -> PatternMass:
    """What was measured of all examples, in their order. shape: layers, heads; tables: by pattern and microbatch."""
    whole = [in_order_of(examples, pa.concat_tables(each)) for each in tables]
    mass, uniform, share = (
        torch.stack([torch.tensor(each[name].to_pylist(), dtype=torch.float64) for each in whole], 1)
        for name in ("mass", "uniform", "share")
    )
    return PatternMass(names, mass.view(*mass.shape[:-1], *shape), uniform, share)
