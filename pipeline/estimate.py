"""How long a run would take, from a few microbatches that are really computed, in a store that is thrown away."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluation.layer_choice import FAITHFUL
from pipeline.compose import run_key
from pipeline.config import Config, HeadsConfig
from pipeline.execution import Executor, Outcome, Task, create_executor, in_order
from pipeline.experiment import Experiment
from pipeline.files import write_atomically
from pipeline.heads import resolved_methods
from pipeline.layer_choice import bodies
from pipeline.layer_texts import AUTO, LayerTexts
from pipeline.microbatch import MicroBatch
from pipeline.other_operators import portions
from pipeline.schedule import Ledger, StagePlan, plan_attribution, plan_evaluation, plan_memory, plan_whole
from pipeline.stages import (
    attribute,
    compare_layers,
    compare_operators,
    evaluate,
    identify_heads,
    load_model,
    measure_coherence,
    measure_memory,
)
from pipeline.stages.setting import Setting
from pipeline.store import Store
from pipeline.targets import targets_of
from pipeline.worker import WorkerSettings

PROBED_ROWS = 8  # of each microbatch but the largest, which tells the memory
PROBED_SENTENCES = 64  # of each treebank; the search is linear in their number
QUANTILES = (0.0, 0.0, 0.5, 1.0)  # of the microbatches by size; the first warms up


@dataclass(frozen=True)
class Sample:
    """What one microbatch took."""

    stage: str
    length: int
    seconds_per_row: float


@dataclass(frozen=True)
class Estimate:
    """Seconds of one worker by stage, and the most memory a worker needed."""

    seconds: dict[str, float]
    peak_bytes: int
    workers: int
    gpus: float  # of each worker
    memory: dict[str, Any] | None = None  # of a pass, a row of MEMORY

    @property
    def total(self) -> float:
        """Seconds of work of all stages."""
        return sum(self.seconds.values())

    @property
    def gpu_hours(self) -> float:
        """Hours that GPUs are held."""
        return self.total * self.gpus / 3600


def estimate(experiment: Experiment) -> Estimate:
    """Probe the experiment's model and data, and extend what that took to all microbatches. Takes seconds."""
    batches = _chosen(experiment.batches)
    with (
        _throwaway_store(experiment) as store,
        create_executor(WorkerSettings(store.location), experiment.site) as executor,
    ):
        outcomes = list(_probe(experiment, batches, store, executor))
        heads = _heads_seconds(experiment, executor)
        choice = {} if experiment.layer_texts is None else _choice(experiment, experiment.layer_texts, store, executor)
        samples = _samples(outcomes, batches)
        seconds = {stage: _extended(samples, stage, experiment.batches) for stage in _SHARDED}
        others = portions(experiment.config, experiment.prepared.examples, experiment.batches)
        if others:
            seconds[compare_operators.STAGE] = _extended(samples, evaluate.STAGE, [part.batch for part in others])
        measuring = [outcome.seconds for task, outcome in outcomes if task.stage == measure_memory.STAGE]
        seconds |= {measure_memory.STAGE: sum(measuring)} if measuring else {}
        peak = max(outcome.peak_bytes for _, outcome in outcomes)
        memory = _memory(store, [task for task, _ in outcomes])
        return Estimate(
            {**seconds, identify_heads.STAGE: heads, **choice}, peak, executor.workers, executor.gpus, memory
        )


def _memory(store: Store, tasks: Sequence[Task]) -> dict[str, Any] | None:
    """What was measured of a pass."""
    tables = [store.get(task.id, task.stage) for task in tasks if task.stage == measure_memory.STAGE]
    return next((table.to_pylist()[0] for table in tables if table is not None), None)


@contextmanager
def _throwaway_store(experiment: Experiment) -> Iterator[Store]:
    """In a temporary folder; below the run's own store where workers on other machines have to see it."""
    cluster, own = experiment.config.cluster, experiment.ledger.store.location
    shared = cluster.executor != "local" and cluster.address is not None
    if shared and "://" in own:
        store = Store(f"{own}/plan-{uuid.uuid4().hex}")
        try:
            yield store
        finally:
            store.backend.delete(*(found.name for found in store.backend.list()))
        return
    if shared:
        Path(own).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".plan-", dir=own if shared else None) as folder:
        yield Store(folder)


_SHARDED = (load_model.STAGE, attribute.STAGE, evaluate.STAGE)


def _chosen(batches: Sequence[MicroBatch]) -> list[MicroBatch]:
    """The beginnings of a few microbatches and the whole largest, no two the same where there are enough."""
    by_size = sorted(range(len(batches)), key=lambda index: batches[index].length * len(batches[index].rows))
    places = [round(quantile * (len(by_size) - 1)) for quantile in QUANTILES]
    places[1] = min(1, len(by_size) - 1)
    *smaller, largest = (batches[by_size[place]] for place in dict.fromkeys(places))
    chosen, measured = [*map(_beginning, smaller), largest], measure_memory.largest(batches)
    if measured is None or measured == largest or _beginning(measured) in chosen:
        return chosen
    return [*chosen, _beginning(measured)]


def _beginning(batch: MicroBatch) -> MicroBatch:
    return replace(batch, rows=batch.rows[:PROBED_ROWS], items=batch.items[:PROBED_ROWS])


def _probe(
    experiment: Experiment, batches: list[MicroBatch], store: Store, executor: Executor
) -> Iterator[tuple[Task, Outcome]]:
    """Take the microbatches through the stages; what a mask is does not change what it costs."""
    config, prepared, ledger = experiment.config, experiment.prepared, Ledger(store)
    setting = experiment.setting
    store.put(prepared.examples_key, prepared.examples, "examples")
    predicting = plan_whole(ledger, load_model.STAGE, [load_model.task_of(setting, batch) for batch in batches])
    yield from _done(predicting, executor)
    targets = _targets(config, experiment, batches, store, predicting)
    every = np.ones((prepared.model.n_layers, prepared.model.n_heads), dtype=int).tolist()
    entries = {label: _known(entry, every) for label, entry in config.attribution.items()}
    methods = resolved_methods(entries, None, prepared.model)
    yield from _done(plan_memory(config, setting, ledger, batches, targets, methods), executor)
    scores = plan_attribution(config, setting, ledger, batches, targets, methods)
    yield from _done(scores, executor)
    yield from _done(plan_evaluation(config, setting, ledger, batches, targets, scores.keys), executor)


def _known(entry: Mapping[str, Any], every: list[list[int]]) -> dict[str, Any]:
    """A method with any mask, and the first block's output where its layer is to be chosen: no other costs more."""
    mask = {"head_mask": every} if isinstance(entry.get("head_mask"), str) else {}
    return {**entry, **mask, **({"layer": 1} if entry.get("layer") == AUTO else {})}


def _targets(
    config: Config, experiment: Experiment, batches: list[MicroBatch], store: Store, plan: StagePlan
) -> list[Any]:
    """Targets of the probed rows, by row of the examples; None elsewhere."""
    rows = experiment.prepared.examples.to_pylist()
    targets: list[Any] = [None] * len(rows)
    for batch, key in zip(batches, plan.keys[plan.stage], strict=True):
        table = store.get(key, plan.stage)
        assert table is not None, "a probe's result is gone"
        probed = [rows[row] for row in batch.rows]
        for row, target in zip(
            batch.rows, targets_of(config, experiment.prepared.is_qa, probed, table.to_pylist()), strict=True
        ):
            targets[row] = target
    return targets


def _done(plan: StagePlan, executor: Executor) -> list[tuple[Task, Outcome]]:
    """The tasks one after the other on one worker, so that none waits for another."""
    outcomes: list[tuple[Task, Outcome]] = []
    for task in plan.tasks:
        executor.run(in_order([task]), lambda outcome, task=task: outcomes.append((task, outcome)))  # type: ignore[misc]
    failed = next((outcome for _, outcome in outcomes if not outcome.ok), None)
    if failed is not None:
        raise RuntimeError(f"the probe of {plan.stage} failed: {failed.error}")
    return outcomes


def _samples(
    outcomes: Sequence[tuple[Task, Outcome]], batches: Sequence[MicroBatch], stages: Sequence[str] = _SHARDED
) -> list[Sample]:
    samples = []
    for stage in stages:
        taken = [outcome for task, outcome in outcomes if task.stage == stage]
        pairs = list(zip(batches, taken, strict=True)) if taken else []  # of some runs nothing is perturbed
        for batch, outcome in pairs[1:] or pairs:  # the first of each stage warms up
            samples.append(Sample(stage, batch.length, outcome.seconds / len(batch.rows)))
    return samples


def _extended(samples: Sequence[Sample], stage: str, batches: Sequence[MicroBatch]) -> float:
    """Seconds of all microbatches: per row, between the probed lengths on a straight line."""
    own = sorted((sample.length, sample.seconds_per_row) for sample in samples if sample.stage == stage)
    if not own:
        return 0.0
    lengths = np.array([batch.length for batch in batches])
    rows = np.array([len(batch.rows) for batch in batches])
    return float(np.interp(lengths, [length for length, _ in own], [seconds for _, seconds in own]) @ rows)


def _heads_seconds(experiment: Experiment, executor: Executor) -> float:
    """The search on a few sentences, extended to all of them."""
    heads = experiment.config.heads
    fewer = replace(
        heads, sentences=min(PROBED_SENTENCES, heads.sentences), limit=min(PROBED_SENTENCES, heads.limit or sys.maxsize)
    )
    whole, probed = (_searching(experiment.setting, config) for config in (heads, fewer))
    seconds = sum(outcome.seconds for _, outcome in _done(probed, executor))
    return seconds * whole.weight / max(1.0, probed.weight)


def _choice(experiment: Experiment, texts: LayerTexts, store: Store, executor: Executor) -> dict[str, float]:
    """Seconds of the choice of a layer, by stage; that of all layers where it is not known which can be read."""
    batches, ledger = _chosen(texts.batches), Ledger(store)
    store.put(texts.prepared.examples_key, texts.prepared.examples, "examples")

    def seconds(stage: str, task_of: Callable[[MicroBatch], Task]) -> float:
        outcomes = _done(plan_whole(ledger, stage, map(task_of, batches)), executor)
        return _extended(_samples(outcomes, batches, (stage,)), stage, texts.batches)

    measured = [
        seconds(measure_coherence.STAGE, partial(measure_coherence.task_of, texts.setting, body=body))
        for body in bodies(texts)
    ]
    found = {measure_coherence.STAGE: sum(measured)}
    if experiment.config.decoding.choose == FAITHFUL:
        layers = range(experiment.prepared.model.n_layers + 1)
        compare = partial(compare_layers.task_of, texts.setting, layers=layers)
        found[compare_layers.STAGE] = seconds(compare_layers.STAGE, compare)
    return found


def _searching(setting: Setting, config: HeadsConfig) -> StagePlan:
    """All counts of a search."""
    counts = identify_heads.counts_of(config, partial(setting.key, identify_heads.STAGE))
    return StagePlan(identify_heads.STAGE, identify_heads.tasks_of(counts, setting))


def remaining(whole: Estimate, plans: Sequence[StagePlan]) -> Estimate:
    """The part of an estimate that is left: by stage the share of results that are to be computed."""
    shares = {plan.stage: plan.computed / max(1, plan.computed + plan.reused) for plan in plans}
    shares[measure_memory.STAGE] = float(shares.get(attribute.STAGE, 1.0) > 0)  # measured where something is explained
    return replace(whole, seconds={stage: seconds * shares.get(stage, 1.0) for stage, seconds in whole.seconds.items()})


def save_estimate(config: Config, left: Estimate) -> None:
    """Keep an estimate for the run it is of."""
    write_atomically(_path(config), json.dumps(asdict(left), sort_keys=True).encode())


def saved_estimate(config: Config) -> dict[str, Any] | None:
    """What `headlight plan` said of this run, if it was asked."""
    path = _path(config)
    found: dict[str, Any] | None = json.loads(path.read_bytes()) if path.is_file() else None
    return found


def _path(config: Config) -> Path:
    return Path(config.paths.root) / "plans" / f"{run_key(config)}.json"


def machine_bytes() -> int:
    """Memory of the device that the driver sees: of the first GPU, else of the machine."""
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
