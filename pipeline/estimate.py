"""How long a run would take, from a few microbatches that are really computed, in a store that is thrown away."""

from __future__ import annotations

import json
import os
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
from pipeline.config import Config
from pipeline.estimate_heads import pruning_seconds, searching_seconds, weighing_seconds
from pipeline.estimate_patterns import pattern_seconds, teacher_seconds
from pipeline.execution import Executor, Outcome, Progress, Task, create_executor
from pipeline.experiment import Experiment
from pipeline.files import write_atomically
from pipeline.heads import resolved_methods
from pipeline.layer_choice import bodies
from pipeline.layer_texts import AUTO
from pipeline.microbatch import MicroBatch
from pipeline.other_operators import portions
from pipeline.other_texts import OtherTexts
from pipeline.samples import FEW_ROWS, MANY_METHODS, beginnings, chosen, done, each_done, extended, samples_of
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
    prune_heads,
    weigh_heads,
)
from pipeline.store import Store
from pipeline.targets import targets_of
from pipeline.worker import WorkerSettings


@dataclass(frozen=True)
class Estimate:
    """Seconds of one worker by stage, and the most memory a worker needed."""

    seconds: dict[str, float]
    peak_bytes: int
    workers: int
    gpus: float  # of each worker
    memory: dict[str, Any] | None = None  # of a pass, a row of MEMORY
    rows: int | None = None  # texts that were probed together at most; None: the largest microbatch

    @property
    def total(self) -> float:
        """Seconds of work of all stages."""
        return sum(self.seconds.values())

    @property
    def gpu_hours(self) -> float:
        """Hours that GPUs are held."""
        return self.total * self.gpus / 3600


def estimate(experiment: Experiment, progress: Progress) -> Estimate:
    """Probe the experiment's model and data, and extend what that took to all microbatches.

    Takes seconds; of dozens of methods minutes.
    """
    rows = FEW_ROWS if len(experiment.config.attribution) > MANY_METHODS else None
    batches = chosen(experiment.batches) if rows is None else beginnings(experiment.batches, rows)
    with (
        _throwaway_store(experiment) as store,
        create_executor(WorkerSettings(store.location), experiment.site) as executor,
    ):
        outcomes = []
        with progress.stage("probing", unit="tasks") as bar:
            for found in _probe(experiment, batches, store, executor):
                outcomes.append(found)
                bar.advance()
        heads = _heads(experiment, store, executor)
        choice = {} if experiment.layer_texts is None else _choice(experiment, experiment.layer_texts, store, executor)
        samples = samples_of(outcomes, batches, _SHARDED)
        seconds = {stage: extended(samples, stage, experiment.batches) for stage in _SHARDED}
        others = portions(experiment.config, experiment.prepared.examples, experiment.batches)
        if others:
            seconds[compare_operators.STAGE] = extended(samples, evaluate.STAGE, [part.batch for part in others])
        patterns = pattern_seconds(experiment, store, executor)
        seconds[load_model.STAGE] += teacher_seconds(experiment, store, executor)
        measuring = [outcome.seconds for task, outcome in outcomes if task.stage == measure_memory.STAGE]
        seconds |= {measure_memory.STAGE: sum(measuring)} if measuring else {}
        peak = max(outcome.peak_bytes for _, outcome in outcomes)
        memory = _memory(store, [task for task, _ in outcomes])
        seconds |= {**heads, **choice, **patterns}
        return Estimate(seconds, peak, executor.workers, executor.gpus, memory, rows)


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


def _probe(
    experiment: Experiment, batches: list[MicroBatch], store: Store, executor: Executor
) -> Iterator[tuple[Task, Outcome]]:
    """Take the microbatches through the stages; what a mask is does not change what it costs."""
    config, prepared, ledger = experiment.config, experiment.prepared, Ledger(store)
    setting = experiment.setting
    store.put(prepared.examples_key, prepared.examples, "examples")
    predicting = plan_whole(ledger, load_model.STAGE, [load_model.task_of(setting, batch) for batch in batches])
    yield from each_done(predicting, executor)
    targets = _targets(config, experiment, batches, store, predicting)
    every = np.ones((prepared.model.n_layers, prepared.model.n_heads), dtype=int).tolist()
    entries = {label: _known(entry, every) for label, entry in config.attribution.items()}
    methods = resolved_methods(entries, None, prepared.model)
    yield from each_done(plan_memory(config, setting, ledger, batches, targets, methods), executor)
    scores = plan_attribution(config, setting, ledger, batches, targets, methods)
    yield from each_done(scores, executor)
    yield from each_done(plan_evaluation(config, setting, ledger, batches, targets, scores.keys), executor)


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


def _heads(experiment: Experiment, store: Store, executor: Executor) -> dict[str, float]:
    """Seconds of the search for heads, and of their importances where these are asked for, by stage."""
    found, texts = {identify_heads.STAGE: searching_seconds(experiment, executor)}, experiment.head_texts
    if texts is None:
        return found
    weighing = weighing_seconds(experiment, texts, store, executor)
    return {**found, weigh_heads.STAGE: weighing, prune_heads.STAGE: pruning_seconds(experiment, store, executor)}


def _choice(experiment: Experiment, texts: OtherTexts, store: Store, executor: Executor) -> dict[str, float]:
    """Seconds of the choice of a layer, by stage; that of all layers where it is not known which can be read."""
    batches, ledger = chosen(texts.batches), Ledger(store)
    store.put(texts.prepared.examples_key, texts.prepared.examples, "examples")

    def seconds(stage: str, task_of: Callable[[MicroBatch], Task]) -> float:
        outcomes = done(plan_whole(ledger, stage, map(task_of, batches)), executor)
        return extended(samples_of(outcomes, batches, (stage,)), stage, texts.batches)

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


def remaining(whole: Estimate, plans: Sequence[StagePlan]) -> Estimate:
    """The part of an estimate that is left: by stage the share of results that are to be computed."""
    counts: dict[str, tuple[int, int]] = {}  # of a stage that comes twice, together
    for plan in plans:
        computed, reused = counts.get(plan.stage, (0, 0))
        counts[plan.stage] = computed + plan.computed, reused + plan.reused
    shares = {stage: computed / max(1, computed + reused) for stage, (computed, reused) in counts.items()}
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
