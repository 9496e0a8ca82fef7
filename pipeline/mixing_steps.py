"""The steps of a run that map, represent and probe masked words: plans of tasks, and their results put together."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.collect import in_order_of
from pipeline.execution import Task
from pipeline.mixing import Mixed
from pipeline.schedule import StagePlan, plan_whole
from pipeline.stages import mix_context, probe, represent
from pipeline.stages.asked import targets_for

if TYPE_CHECKING:
    from pipeline.experiment import Experiment

Steps = Generator[StagePlan, None, Mixed]


def mixing_steps(experiment: Experiment) -> Steps:
    """All that `mixing` asks for, nothing by default. Each plan is to be done before the next."""
    asked, mixed = experiment.config.mixing, Mixed()
    if asked.layers:
        tables = yield from experiment.whole(lambda: plan_maps(experiment))
        mixed.maps = {label: _joined(experiment, label, tables) for label in layered(experiment)}
    if asked.probes:
        yield from experiment.whole(lambda: plan_states(experiment))
        tables = yield from experiment.whole(lambda: plan_probes(experiment))
        mixed.probes = pa.concat_tables(tables.values()).sort_by([("form", "descending"), ("layer", "ascending")])
    return mixed


def mixing_plans(experiment: Experiment) -> list[StagePlan]:
    """The plans of these steps, of a run whose methods are known."""
    asked = experiment.config.mixing
    plans = [*([plan_maps] if asked.layers else []), *([plan_states, plan_probes] if asked.probes else [])]
    return [plan(experiment) for plan in plans]


def layered(experiment: Experiment) -> dict[str, Mapping[str, Any]]:
    """The methods that have a map in every layer, by label."""
    return {label: method for label, method in experiment.methods.items() if mix_context.has_layers(method)}


def plan_maps(experiment: Experiment) -> StagePlan:
    """A task for each microbatch and method; methods that differ in nothing but their rollout share theirs."""
    tasks = [task for label in layered(experiment) for task in _maps_of(experiment, label)]
    return plan_whole(experiment.ledger, mix_context.STAGE, tasks)


def _maps_of(experiment: Experiment, label: str) -> list[Task]:
    method, targets = experiment.methods[label], experiment.targets
    return [
        mix_context.task_of(experiment.setting, batch, method, targets_for(batch, targets))
        for batch in experiment.batches
    ]


def _joined(experiment: Experiment, label: str, tables: Mapping[str, pa.Table]) -> pa.Table:
    return in_order_of(healthy(experiment), pa.concat_tables(tables[task.id] for task in _maps_of(experiment, label)))


def healthy(experiment: Experiment) -> pa.Table:
    """The examples without those that turned out impossible to compute."""
    rows = sorted(row for batch in experiment.batches for row in batch.rows)
    return experiment.prepared.examples.take(rows)


def plan_states(experiment: Experiment) -> StagePlan:
    """One task per microbatch, for the layers whose states are not there; the embeddings are layer 0."""
    setting, batches = experiment.setting, experiment.batches
    layers = range(experiment.prepared.model.n_layers + 1)
    wanted = [{layer: represent.key_of(setting, batch, layer) for layer in layers} for batch in batches]

    def task_of(index: int, absent: list[str]) -> Task:
        by_key = {key: layer for layer, key in wanted[index].items()}
        return represent.task_of(setting, batches[index], {key: by_key[key] for key in absent})

    return experiment.ledger.plan(represent.STAGE, wanted, task_of)


def plan_probes(experiment: Experiment) -> StagePlan:
    """A task for each layer and form, of all examples together."""
    states, asked = plan_states(experiment).keys, experiment.config.mixing
    rows = healthy(experiment).select(["item_id", "label"]).to_pylist()
    labels = {row["item_id"]: row["label"] for row in rows}
    tasks = [
        probe.task_of(experiment.setting, layer, keys, labels, form, asked.probe_seed)
        for form in asked.probes
        for layer, keys in states.items()
    ]
    return plan_whole(experiment.ledger, probe.STAGE, tasks)
