"""From what is wanted to tasks: every result has a key, what the store holds is not computed again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluation import METRICS
from pipeline.config import Config
from pipeline.execution.task import Task
from pipeline.microbatch import MicroBatch
from pipeline.stages import attribute, evaluate
from pipeline.stages.setting import Setting, missing
from pipeline.store import Store


@dataclass
class StagePlan:
    """The tasks of a stage and where each result will be: {label: keys}, in the order of the microbatches."""

    stage: str
    tasks: list[Task] = field(default_factory=list)
    keys: dict[Any, list[str]] = field(default_factory=dict)
    computed: int = 0
    reused: int = 0

    def count(self, asked: Sequence[str], absent: Sequence[str]) -> None:
        """Note how many results a microbatch needs and how many of them are not there."""
        self.computed += len(absent)
        self.reused += len(set(asked)) - len(absent)


def microbatch_targets(batch: MicroBatch, targets: Sequence[Any]) -> Any:
    """The targets of a microbatch's rows."""
    return tuple(targets[row] for row in batch.rows)


def attribution_options(config: Config) -> dict[str, Any]:
    """What all methods of a run share."""
    return {"output": config.explain.output, "hide_separators": config.explain.hide_separators}


def plan_attribution(
    config: Config,
    setting: Setting,
    store: Store,
    batches: Sequence[MicroBatch],
    targets: Sequence[Any],
    methods: Mapping[str, Mapping[str, Any]],
) -> StagePlan:
    """One task per microbatch, for the methods whose scores are not there."""
    plan, options = StagePlan(attribute.STAGE, keys={label: [] for label in methods}), attribution_options(config)
    for batch in batches:
        goal = microbatch_targets(batch, targets)
        keys = {label: attribute.key_of(setting, batch, method, goal, options) for label, method in methods.items()}
        by_key = {key: methods[label] for label, key in keys.items()}
        absent = missing(keys.values(), held(store, keys.values(), attribute.STAGE))
        plan.count(list(keys.values()), absent)
        for label, key in keys.items():
            plan.keys[label].append(key)
        if absent:
            plan.tasks.append(attribute.task_of(setting, batch, {key: by_key[key] for key in absent}, goal, options))
    return plan


def curve_families(config: Config) -> list[str]:
    """The curve families that the metrics of a run are read from."""
    families = [METRICS[metric].curve for metric in config.evaluation.metrics]
    return list(dict.fromkeys(family for family in families if family is not None))


def plan_evaluation(
    config: Config,
    setting: Setting,
    store: Store,
    batches: Sequence[MicroBatch],
    targets: Sequence[Any],
    scores: Mapping[str, Sequence[str]],
) -> StagePlan:
    """One task per microbatch, for the curves that are not there; `scores` are the attribution keys by label."""
    options = {"operator": config.evaluation.operator, "levels": config.evaluation.levels}
    families = curve_families(config)
    plan = StagePlan(evaluate.STAGE, keys={(label, family): [] for label in scores for family in families})
    for index, batch in enumerate(batches):
        goal = microbatch_targets(batch, targets)
        wanted = {name: evaluate.Wanted(name[1], scores[name[0]][index]) for name in plan.keys}
        keys = {name: evaluate.key_of(setting, batch, each, goal, options) for name, each in wanted.items()}
        by_key = {keys[name]: each for name, each in wanted.items()}
        absent = missing(keys.values(), held(store, keys.values(), evaluate.STAGE))
        plan.count(list(keys.values()), absent)
        for name, key in keys.items():
            plan.keys[name].append(key)
        if absent:
            plan.tasks.append(evaluate.task_of(setting, batch, {key: by_key[key] for key in absent}, goal, options))
    return plan


def held(store: Store, keys: Any, stage: str) -> set[str]:
    """The keys whose results are in the store."""
    return {key for key in set(keys) if store.has(key, stage)}


def whole(tasks: Iterator[Task] | Sequence[Task], stage: str, store: Store) -> StagePlan:
    """The plan of a stage each of whose tasks has one result, named by its task."""
    plan = StagePlan(stage)
    for task in tasks:
        absent = [] if store.has(task.id, stage) else [task.id]
        plan.keys.setdefault(stage, []).append(task.id)
        plan.count([task.id], absent)
        plan.tasks += [task] if absent else []
    return plan
