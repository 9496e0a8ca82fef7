"""From what is wanted to tasks: every result has a key, what is at hand or on its way is not computed again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from attribution.methods.registry import METHODS
from evaluation import CURVES, METRICS
from pipeline.config import ClusterConfig, Config
from pipeline.execution.memory import Fits
from pipeline.execution.task import Task
from pipeline.microbatch import MicroBatch
from pipeline.stages import attribute, evaluate, measure_memory
from pipeline.stages.setting import Setting
from pipeline.store import Store


@dataclass
class StagePlan:
    """The tasks of a stage and where each result will be: {label: keys}, in the order of the microbatches."""

    stage: str
    tasks: list[Task] = field(default_factory=list)
    awaited: list[Task] = field(default_factory=list)  # of other runs, which make some of the results
    keys: dict[Any, list[str]] = field(default_factory=dict)
    computed: int = 0
    reused: int = 0

    @property
    def weight(self) -> float:
        """What is still to be done, in the unit of progress."""
        return sum(task.weight for task in (*self.tasks, *self.awaited))

    @property
    def effort(self) -> float:
        """How much of it takes how long."""
        return sum(task.effort for task in (*self.tasks, *self.awaited))


class Ledger:
    """Which results are at hand and which are on their way, over all runs that share a store and a driver."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._makers: dict[str, Task] = {}  # result -> the task that is to make it

    def claim(self, task: Task) -> None:
        """Note that a task will be done."""
        self._makers.update(dict.fromkeys(task.results, task))

    def settle(self, task: Task) -> None:
        """Note that a task was done, or has failed."""
        for key in task.results:
            self._makers.pop(key, None)

    def plan(
        self,
        stage: str,
        wanted: Sequence[Mapping[Any, str]],
        task_of: Callable[[int, list[str]], Task],
    ) -> StagePlan:
        """The plan of a stage: `wanted` gives {label: key} by microbatch, `task_of` a task for some keys of one."""
        plan = StagePlan(stage)
        asked = dict.fromkeys(key for keys in wanted for key in keys.values())
        held = self.store.held(asked, stage)
        coming = {key: self._makers[key] for key in asked if key not in held and key in self._makers}
        for index, keys in enumerate(wanted):
            absent = [key for key in dict.fromkeys(keys.values()) if key not in held and key not in coming]
            for label, key in keys.items():
                plan.keys.setdefault(label, []).append(key)
            plan.tasks += [task_of(index, absent)] if absent else []
            plan.computed += len(absent)
        plan.reused = len(asked) - plan.computed
        plan.awaited = list({task.id: task for task in coming.values()}.values())
        return plan


def plan_whole(ledger: Ledger, stage: str, tasks: Iterable[Task]) -> StagePlan:
    """The plan of a stage each of whose tasks has one result, named by its task."""
    tasks = list(tasks)
    return ledger.plan(stage, [{stage: task.id} for task in tasks], lambda index, absent: tasks[index])


def plan_attribution(
    config: Config,
    setting: Setting,
    ledger: Ledger,
    batches: Sequence[MicroBatch],
    targets: Sequence[Any],
    methods: Mapping[str, Mapping[str, Any]],
) -> StagePlan:
    """One task per microbatch, for the methods whose scores are not there."""
    options = {"output": config.explain.output, "hide_separators": config.explain.hide_separators}
    goals = [tuple(targets[row] for row in batch.rows) for batch in batches]
    wanted = [
        {label: attribute.key_of(setting, batch, method, goal, options) for label, method in methods.items()}
        for batch, goal in zip(batches, goals, strict=True)
    ]

    def task_of(index: int, absent: list[str]) -> Task:
        by_key = {key: methods[label] for label, key in wanted[index].items()}
        return attribute.task_of(setting, batches[index], {key: by_key[key] for key in absent}, goals[index], options)

    return ledger.plan(attribute.STAGE, wanted, task_of)


def fitted(plan: StagePlan, cluster: ClusterConfig, bytes_per_token: float | None) -> StagePlan:
    """The plan, whose tasks know how much goes in one pass: what is configured, else what was measured."""
    if cluster.pass_tokens is None and bytes_per_token is None:
        return plan
    cpus = own_cpus(cluster)
    plan.tasks = [
        replace(task, fits=Fits(task.payload["shard"].length, cluster.pass_tokens, bytes_per_token, cpus))
        for task in plan.tasks
    ]
    return plan


def own_cpus(cluster: ClusterConfig) -> float | None:
    """CPUs of each worker where several may share a machine; None where there is one."""
    return None if cluster.executor == "local" else cluster.cpus_per_worker


def plan_memory(
    config: Config,
    setting: Setting,
    ledger: Ledger,
    batches: Sequence[MicroBatch],
    targets: Sequence[Any],
    methods: Mapping[str, Mapping[str, Any]],
) -> StagePlan:
    """One task, or none where nothing grows with a microbatch, none has rows to be divided or passes are configured."""
    batch = measure_memory.largest(batches)
    methods = {label: method for label, method in methods.items() if not METHODS[method["method"]].perturbs}
    if batch is None or not methods or config.cluster.pass_tokens is not None:
        return StagePlan(measure_memory.STAGE)
    options = {"output": config.explain.output, "hide_separators": config.explain.hide_separators}
    goals = tuple(targets[row] for row in batch.rows)
    task = measure_memory.task_of(setting, batch, methods, goals, options, own_cpus(config.cluster))
    return plan_whole(ledger, measure_memory.STAGE, [task])


class Portion(NamedTuple):
    """What is perturbed together: a microbatch, or some of its examples under another operator."""

    number: int  # of the microbatch that the scores are of
    batch: MicroBatch
    options: dict[str, Any]
    name: tuple[str, ...] = ()  # in front of those of its results


def plan_evaluation(
    config: Config,
    setting: Setting,
    ledger: Ledger,
    batches: Sequence[MicroBatch],
    targets: Sequence[Any],
    scores: Mapping[str, Sequence[str]],
) -> StagePlan:
    """One task per microbatch, for what is not there; `scores` are the attribution keys by label."""
    portions = [Portion(index, batch, perturbing(config)) for index, batch in enumerate(batches)]
    return plan_portions(config, setting, ledger, evaluate.STAGE, portions, targets, scores)


def perturbing(config: Config) -> dict[str, Any]:
    """How a run perturbs."""
    return {name: getattr(config.evaluation, name) for name in ("operator", "levels", "unit")}


def plan_portions(
    config: Config,
    setting: Setting,
    ledger: Ledger,
    stage: str,
    portions: Sequence[Portion],
    targets: Sequence[Any],
    scores: Mapping[str, Sequence[str]],
) -> StagePlan:
    """One task per portion. Its keys are by the portion's name, label and curve family; removed sets, which serve all
    methods, have None for a label.
    """
    goals = [tuple(targets[row] for row in portion.batch.rows) for portion in portions]
    results = [_results(config, scores, portion) for portion in portions]
    wanted = [
        {name: evaluate.key_of(setting, batch, each, goal, options, stage) for name, each in own.items()}
        for (_, batch, options, _), goal, own in zip(portions, goals, results, strict=True)
    ]

    def task_of(index: int, absent: list[str]) -> Task:
        by_key = {key: results[index][name] for name, key in wanted[index].items()}
        asked, portion = {key: by_key[key] for key in absent}, portions[index]
        return evaluate.task_of(setting, portion.batch, asked, goals[index], portion.options, stage)

    return ledger.plan(stage, wanted, task_of)


def _results(
    config: Config, scores: Mapping[str, Sequence[str]], portion: Portion
) -> dict[tuple[str | None, ...], evaluate.Wanted]:
    """What is made of a portion, by name."""
    found: dict[tuple[str | None, ...], evaluate.Wanted] = {
        (*portion.name, None, sets): evaluate.Wanted(sets, seed=config.evaluation.seed) for sets in removed_sets(config)
    }
    for label, keys in scores.items():
        for family in curve_families(config):
            found[*portion.name, label, family] = evaluate.Wanted(family, keys[portion.number])
    return found


def curve_families(config: Config) -> list[str]:
    """The curve families that the metrics of a run are read from."""
    return [source for source in _prepared(config) if source in CURVES]


def removed_sets(config: Config) -> list[str]:
    """The removed sets that the metrics of a run are read from."""
    return [source for source in _prepared(config) if source not in CURVES]


def _prepared(config: Config) -> list[str]:
    sources = [source for metric in config.evaluation.metrics for source in METRICS[metric].prepared.values()]
    return list(dict.fromkeys(sources))
