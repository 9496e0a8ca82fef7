"""Patterns in a run: how relevant every head is to them, and what models that follow them do, beside controls."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch

from attribution.errors import InputError
from attribution.patterns import PatternFile, Tokens, Vocabulary, evaluate
from attribution.patterns.mass import QUERIES, PatternMass
from attribution.patterns.predicates import write_predicate
from attribution.patterns.relevance import PatternRelevance
from attribution.patterns.schema import IN_PLACE, PAL, STUDENT
from pipeline import classifiers, students
from pipeline.arms import arms_table
from pipeline.classifiers import class_texts
from pipeline.collect import in_order_of
from pipeline.config import Config
from pipeline.execution.task import Task
from pipeline.in_place import comparing
from pipeline.mixing_steps import healthy
from pipeline.other_texts import OtherTexts
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

    def facts(self) -> dict[str, Any]:
        """What decides it, for the signature of a run."""
        texts = self.texts and self.texts.prepared.examples_key
        return {"patterns": self.file.plain(), "documents": self.documents and self.documents.keys, "texts": texts}


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
    _check_measurable(file, prepared, where)
    target = file.inject and file.inject.target
    trains = next((name for name in ("train", "texts") if getattr(config.students, name)), None)
    if trains and target not in (STUDENT, PAL):
        has = f"target: {target}" if target else "no inject"
        raise InputError(f"conf error: students.{trains} needs inject.target: {STUDENT} or {PAL}; {where} has {has}.")
    return Asked(file, documents_of(config), class_texts(config, prepared, device))


def _check_measurable(file: PatternFile, prepared: Prepared, where: str) -> None:
    """InputError for patterns that ask for what texts alone do not tell: dependency trees."""
    ids = torch.zeros(1, 2, dtype=torch.long)
    tokens = Tokens(ids, ids == 0, Vocabulary.of(prepared.tokenizer))
    try:
        evaluate([pattern.pred for pattern in file.patterns.values()], tokens)
    except InputError as error:
        raise InputError(f"conf error: {where}: {error}") from None


def studying(experiment: Experiment, asked: Asked) -> Generator[StagePlan, None, Studied]:
    """Measure, then put patterns into models, where that is asked for. Each plan is to be done before the next."""
    relevance = yield from measuring(experiment, asked.file)
    both = [PatternRelevance(relevance.mass, relevance.random, queries).to_table() for queries in QUERIES]
    found = []
    if experiment.config.patterns.in_place:
        compared = yield from comparing(experiment, asked.file, relevance)
        found += [Trained(arms_table(IN_PLACE, each), lines=tuple(each.lines())) for each in compared]
    if asked.documents is not None:
        found.append((yield from students.training(experiment, asked.file, asked.documents)))
    if asked.texts is not None:
        found.append((yield from classifiers.training(experiment, asked.file, asked.texts)))
    tables = {"arms": pa.concat_tables([ARMS.empty_table(), *(each.arms for each in found)])}
    tables["losses"] = pa.concat_tables([LOSSES.empty_table(), *(each.losses for each in found)])
    made = {name: table for name, table in tables.items() if table.num_rows}
    lines = (*relevance.describe(), *(line for each in found for line in each.lines))
    kept = {folder: key for each in found for folder, key in each.kept.items()}
    return Studied({"patterns": pa.concat_tables(both), **made}, lines, kept)


def study_plans(experiment: Experiment) -> list[StagePlan]:
    """The plans of these steps that are known before any is done: which heads are relevant is known once measured."""
    asked = experiment.patterns
    if asked is None:
        return []
    plans = [] if asked.documents is None else students.plans(experiment, asked.file, asked.documents)
    plans += [] if asked.texts is None else classifiers.plans(experiment, asked.file, asked.texts)
    return [plan_masses(experiment, asked.file), *(plan() for plan in plans)]


def measuring(experiment: Experiment, file: PatternFile) -> Generator[StagePlan, None, PatternRelevance]:
    """The relevance of every head to every pattern, on the examples of the run."""
    experiment.store_texts(experiment.prepared)
    tables = yield from experiment.whole(lambda: plan_masses(experiment, file), every=True)
    keys = plan_masses(experiment, file).keys
    masses = {
        seed: _mass(
            experiment, [[tables[key] for key in keys[seed, name]] for name in file.patterns], tuple(file.patterns)
        )
        for seed in _models(experiment)
    }
    own = masses.pop(None)
    return PatternRelevance(own, tuple(masses.values()), experiment.config.patterns.queries)


def plan_masses(experiment: Experiment, file: PatternFile) -> StagePlan:
    """A task for each model and microbatch, for the patterns that are not measured on it."""
    setting, batches = experiment.setting, experiment.batches
    written = {name: write_predicate(pattern.pred) for name, pattern in file.patterns.items()}
    places = [(seed, batch) for seed in _models(experiment) for batch in batches]
    wanted = [
        {(seed, name): measure_patterns.key_of(setting, batch, each, seed) for name, each in written.items()}
        for seed, batch in places
    ]

    def task_of(index: int, absent: list[str]) -> Task:
        seed, batch = places[index]
        by_key = {key: written[name] for (_, name), key in wanted[index].items()}
        return measure_patterns.task_of(setting, batch, {key: by_key[key] for key in absent}, seed)

    return experiment.ledger.plan(measure_patterns.STAGE, wanted, task_of)


def _models(experiment: Experiment) -> list[int | None]:
    return [None, *experiment.config.patterns.random_seeds]


def _mass(experiment: Experiment, tables: list[list[pa.Table]], names: tuple[str, ...]) -> PatternMass:
    """What was measured of all examples, in their order; `tables` by pattern and microbatch."""
    examples, model = healthy(experiment), experiment.prepared.model
    whole = [in_order_of(examples, pa.concat_tables(each)) for each in tables]
    mass, uniform, share = (
        torch.stack([torch.tensor(each[name].to_pylist(), dtype=torch.float64) for each in whole], 1)
        for name in ("mass", "uniform", "share")
    )
    return PatternMass(names, mass.view(*mass.shape[:-1], model.n_layers, model.n_heads), uniform, share)
