"""Importance of heads in a run, and the curves of their rankings: plans of tasks, and what is read of their results."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from attribution.errors import InputError
from attribution.heads import Importance
from attribution.heads.importance import importance_of, needs_all_texts
from evaluation.head_pruning import PruningCurve, both_ways, random_order
from pipeline.config import Config
from pipeline.execution.task import Task
from pipeline.head_worth import RANDOM, Order, curve_of, values_of
from pipeline.microbatch import MicroBatch
from pipeline.other_texts import OtherTexts, Wanted, other_texts
from pipeline.prepare import Prepared
from pipeline.schedule import Ledger, StagePlan, plan_whole
from pipeline.stages import prune_heads, weigh_heads
from pipeline.stages.setting import Setting
from pipeline.stages.weigh_heads import Gold

if TYPE_CHECKING:
    from pipeline.experiment import Experiment


def head_texts(config: Config, prepared: Prepared, device: str) -> OtherTexts | None:
    """The texts that importance is found on; None where none is asked for. Raises `InputError` where there are none."""
    asked = config.heads
    if not asked.importance:
        return None
    purpose = f"heads.importance.{next(iter(asked.importance))} is found on texts"
    wanted = Wanted(asked.texts, "heads.texts", asked.n_texts, labelled=True, purpose=purpose)
    texts = other_texts(config, prepared, device, wanted)
    if texts.prepared.examples.num_rows < 2:
        raise InputError(f"conf error: heads.texts: one text is left of {texts.source}; importance needs two or more.")
    return texts


def found_on(texts: OtherTexts) -> str:
    """A sentence for the report: which texts these are."""
    return f"importance of heads was found on {texts.prepared.examples.num_rows} texts: {texts.source}"


def weighing(experiment: Experiment, texts: OtherTexts) -> Generator[StagePlan, None, dict[str, Importance]]:
    """Weigh all heads on these texts. Each plan is to be done before the next."""
    experiment.store_texts(texts.prepared)
    config, ledger = experiment.config, experiment.ledger
    tables = yield from experiment.whole(lambda: plan_weighing(config, ledger, texts), every=True)
    found = {label: [tables[key] for key in keys] for label, keys in plan_weighing(config, ledger, texts).keys.items()}
    shape = texts.prepared.model.n_layers, texts.prepared.model.n_heads
    methods = experiment.config.heads.importance
    items = texts.prepared.examples["item_id"].to_pylist()
    return {label: importance_of(spec, values_of(found[label], items, shape)) for label, spec in methods.items()}


def pruning(
    experiment: Experiment, importances: Mapping[str, Importance]
) -> Generator[StagePlan, None, dict[Order, PruningCurve]]:
    """The curves of all rankings, on the run's own examples."""
    if not experiment.config.heads.curves:
        return {}
    experiment.store_texts(experiment.prepared)  # predictions that are at hand leave them where an earlier run had them
    orders = orders_of(experiment.config, importances)

    def plan() -> StagePlan:
        steps, examples = experiment.config.heads.curve_steps, experiment.prepared.examples
        return plan_pruning(experiment.ledger, experiment.setting, experiment.batches, examples, orders, steps)

    tables = yield from experiment.whole(plan, every=True)
    keys = plan().keys
    items = experiment.prepared.examples["item_id"].to_pylist()
    return {order: curve_of([tables[key] for key in keys[order]], items) for order in orders}


def orders_of(config: Config, importances: Mapping[str, Importance]) -> dict[Order, list[int]]:
    """Both orders of each ranking, and the random ones."""
    orders = {
        (label, way): order for label, each in importances.items() for way, order in both_ways(each.scores).items()
    }
    for importance in list(importances.values())[:1]:
        layers, heads = importance.scores.shape
        orders |= {(RANDOM, str(n)): random_order((layers, heads), n) for n in range(config.heads.random_orders)}
    return orders


def plan_weighing(config: Config, ledger: Ledger, texts: OtherTexts) -> StagePlan:
    """The plan of all importances."""
    single, joint = plan_single(config, ledger, texts), plan_joint(config, ledger, texts)
    return StagePlan(
        single.stage,
        [*single.tasks, *joint.tasks],
        [*single.awaited, *joint.awaited],
        {**single.keys, **{label: [task.id] for label, task in _joint_tasks(config, texts).items()}},
        single.computed + joint.computed,
        single.reused + joint.reused,
    )


def plan_single(config: Config, ledger: Ledger, texts: OtherTexts) -> StagePlan:
    """A task for each microbatch, of the importances that each text has by itself."""
    methods, setting, batches = _divided(config)[0], texts.setting, texts.batches
    gold = [_gold(texts.prepared.examples, batch) for batch in batches]
    wanted = [
        {label: weigh_heads.key_of(setting, batch, method, own) for label, method in methods.items()}
        for batch, own in zip(batches, gold, strict=True)
    ]

    def task_of(index: int, absent: list[str]) -> Task:
        by_key = {key: methods[label] for label, key in wanted[index].items()}
        return weigh_heads.task_of(setting, batches[index], {key: by_key[key] for key in absent}, gold[index])

    return ledger.plan(weigh_heads.STAGE, wanted, task_of)


def plan_joint(config: Config, ledger: Ledger, texts: OtherTexts) -> StagePlan:
    """A task for each importance that depends on all texts together."""
    tasks = {task.id: task for task in _joint_tasks(config, texts).values()}
    return plan_whole(ledger, weigh_heads.STAGE, tasks.values())


def _joint_tasks(config: Config, texts: OtherTexts) -> dict[str, Task]:
    gold = [_gold(texts.prepared.examples, batch) for batch in texts.batches]
    return {
        label: weigh_heads.joint_task(texts.setting, texts.batches, method, gold)
        for label, method in _divided(config)[1].items()
    }


def plan_pruning(
    ledger: Ledger,
    setting: Setting,
    batches: Sequence[MicroBatch],
    examples: pa.Table,
    orders: Mapping[Order, Sequence[int]],
    steps: int,
) -> StagePlan:
    """A task for each microbatch of the run, for the orders whose curves are not there."""
    gold = [_gold(examples, batch) for batch in batches]
    wanted = [
        {name: prune_heads.key_of(setting, batch, order, steps, own) for name, order in orders.items()}
        for batch, own in zip(batches, gold, strict=True)
    ]

    def task_of(index: int, absent: list[str]) -> Task:
        by_key = {key: orders[name] for name, key in wanted[index].items()}
        kept = {key: by_key[key] for key in absent}
        return prune_heads.task_of(setting, batches[index], kept, steps, gold[index])

    return ledger.plan(prune_heads.STAGE, wanted, task_of)


def _divided(config: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """Importances by label: of each text by itself, and of all together."""
    joint = {label: spec for label, spec in config.heads.importance.items() if needs_all_texts(spec)}
    return {label: spec for label, spec in config.heads.importance.items() if label not in joint}, joint


def _gold(examples: pa.Table, batch: MicroBatch) -> Gold:
    """Labels or answers of a microbatch; None unless all examples have one."""
    for names in (("label",), ("answer_start", "answer_end")):
        columns = [examples[name] for name in names]
        if not any(column.null_count for column in columns):
            values = [column.take(list(batch.rows)).to_pylist() for column in columns]
            return tuple(values[0]) if len(values) == 1 else tuple(zip(*values, strict=True))
    return None
