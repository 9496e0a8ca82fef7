"""Importance of heads in a run: plans of tasks, and from their results to scores, and what rankings are worth."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from attribution.errors import InputError
from attribution.heads import HeadScores, Importance
from attribution.heads.importance import HeadValues, as_scores, importance_of, needs_all_texts
from evaluation.head_pruning import LEAST_FIRST, MOST_FIRST, PruningCurve, PruningCurves, both_ways, random_order
from evaluation.head_stability import split_half_stability
from pipeline.config import Config
from pipeline.execution.task import Task
from pipeline.microbatch import MicroBatch
from pipeline.other_texts import OtherTexts, Wanted, other_texts
from pipeline.prepare import Prepared
from pipeline.schedule import Ledger, StagePlan, plan_whole
from pipeline.schemas import PRUNING, RANKINGS
from pipeline.stages import prune_heads, weigh_heads
from pipeline.stages.setting import Setting
from pipeline.stages.weigh_heads import Gold

if TYPE_CHECKING:
    from pipeline.experiment import Experiment

RANDOM = "random"
MEASURES = ("decided", "loss")
Order = tuple[str, str]  # ranking and way; "random" and seed
HALVED = 4  # units without which there are no halves


@dataclass(frozen=True)
class Judged:
    """The importances of a run by label, and the curves of their rankings, all on the run's own examples."""

    importances: dict[str, Importance] = field(default_factory=dict)
    curves: dict[Order, PruningCurve] = field(default_factory=dict)

    @property
    def scores(self) -> HeadScores | None:
        """As roles of heads; None where there are none."""
        return as_scores(self.importances) if self.importances else None

    def tables(self) -> dict[str, pa.Table]:
        """The tables of the run; none where nothing was asked for."""
        found = {"rankings": rankings_table(self)} if self.importances else {}
        return {**found, "pruning": pruning_table(self.curves)} if self.curves else found


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


def weighing(experiment: Experiment, texts: OtherTexts) -> Generator[StagePlan, None, dict[str, Importance]]:
    """Weigh all heads on these texts. Each plan is to be done before the next."""
    experiment.store_texts(texts.prepared)
    config, ledger = experiment.config, experiment.ledger
    tables = yield from experiment.whole(lambda: plan_weighing(config, ledger, texts), every=True)
    found = {label: [tables[key] for key in keys] for label, keys in plan_weighing(config, ledger, texts).keys.items()}
    shape = texts.prepared.model.n_layers, texts.prepared.model.n_heads
    methods = experiment.config.heads.importance
    items = texts.prepared.examples["item_id"].to_pylist()
    return {label: importance_of(spec, _values(found[label], items, shape)) for label, spec in methods.items()}


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
    return {order: _curve([tables[key] for key in keys[order]], items) for order in orders}


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


def _joined(tables: Sequence[pa.Table], items: Sequence[str]) -> pa.Table:
    """What several microbatches gave in the order of the items, so that resamples do not depend on microbatches.

    With the number of its microbatch in each row; items that could not be computed are left out.
    """
    numbered = [
        table.append_column("batch", pa.array([number] * table.num_rows, pa.int64()))
        for number, table in enumerate(tables)
    ]
    whole = pa.concat_tables(numbered)
    row = {item: place for place, item in enumerate(whole["item_id"].to_pylist())}
    return whole.take([row[item] for item in items if item in row]).combine_chunks()


def _values(tables: Sequence[pa.Table], items: Sequence[str], shape: tuple[int, int]) -> HeadValues:
    """What several microbatches gave, as of one batch each."""
    whole = _joined(tables, items)
    values = np.array(whole["values"].to_pylist(), dtype=np.float64).reshape(-1, *shape)
    tokens = torch.tensor(whole["tokens"].to_pylist())
    return HeadValues(
        torch.from_numpy(values), tokens, torch.tensor(whole["batch"].to_pylist()), whole["reads_first"][0].as_py()
    )


def _curve(tables: Sequence[pa.Table], items: Sequence[str]) -> PruningCurve:
    """What several microbatches gave, as one curve."""
    whole = _joined(tables, items)
    loss, decided = (
        torch.tensor(np.array(whole[name].to_pylist(), dtype=np.float64).T) for name in ("loss", "decided")
    )
    return PruningCurve(torch.tensor(whole["removed"][0].as_py()), loss, decided)


def pruning_table(curves: Mapping[Order, PruningCurve]) -> pa.Table:
    """Means over the examples."""
    rows = [
        {"ranking": ranking, "order": order, "removed": removed, "loss": loss, "decided": decided, "n": n}
        for (ranking, order), curve in curves.items()
        for removed, loss, decided, n in _points(curve)
    ]
    return pa.Table.from_pylist(rows, schema=PRUNING)


def _points(curve: PruningCurve) -> Iterator[tuple[int, float, float, int]]:
    means = curve.loss.mean(1).tolist(), curve.decided.mean(1).tolist()
    for removed, loss, decided in zip(curve.removed.tolist(), *means, strict=True):
        yield removed, loss, decided, curve.loss.shape[1]


def rankings_table(judged: Judged) -> pa.Table:
    """Areas against random orders, and agreement of halves of the texts."""
    rows = [row for label in judged.importances for row in _worth(label, judged)]
    return pa.Table.from_pylist(rows, schema=RANKINGS)


def _worth(label: str, judged: Judged) -> Iterator[dict[str, Any]]:
    importance, curves = judged.importances[label], judged.curves
    if len(importance.per_example) >= HALVED:
        for measure, values in vars(split_half_stability(importance)).items():
            low, high = np.nanquantile(values, [0.025, 0.975]).tolist()
            about = {"measure": measure, "order": None, "beaten": None, "n": len(importance.per_example)}
            yield {"ranking": label, **about, "value": float(np.mean(values)), "low": low, "high": high}
    if not curves:
        return
    chance = [curve for (ranking, _), curve in curves.items() if ranking == RANDOM]
    both = PruningCurves(curves[label, LEAST_FIRST], curves[label, MOST_FIRST], chance)
    for measure in MEASURES:
        for way, found in both.against_random(measure).items():
            about = {"ranking": label, "measure": measure, "order": way, "beaten": both.beaten(measure, way)}
            yield {**about, "value": found.value, "low": found.low, "high": found.high, "n": found.n}
