"""How long the search for heads, their importances and what these are worth would take, from a few texts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from evaluation.head_pruning import random_order
from pipeline.config import HeadsConfig
from pipeline.execution import Executor
from pipeline.experiment import Experiment
from pipeline.head_importance import plan_joint, plan_pruning, plan_single
from pipeline.microbatch import MicroBatch
from pipeline.other_texts import OtherTexts
from pipeline.samples import beginnings, done, extended, samples_of
from pipeline.schedule import Ledger, StagePlan
from pipeline.stages import identify_heads, prune_heads, weigh_heads
from pipeline.stages.setting import Setting
from pipeline.store import Store

PROBED_SENTENCES = 64  # of each treebank; the search is linear in their number
PROBED_ORDERS = 3  # of removal


def searching_seconds(experiment: Experiment, executor: Executor) -> float:
    """The search on a few sentences, extended to all of them."""
    heads = experiment.config.heads
    fewer = replace(
        _with_relations(heads),
        sentences=min(PROBED_SENTENCES, heads.sentences),
        limit=min(PROBED_SENTENCES, heads.limit or sys.maxsize),
    )
    whole, probed = (_searching(experiment.setting, config) for config in (heads, fewer))
    seconds = sum(outcome.seconds for _, outcome in done(probed, executor))
    return seconds * whole.weight / max(1.0, probed.weight)


def _with_relations(heads: HeadsConfig) -> HeadsConfig:
    """The same with all relations by name: a few sentences do not tell which are frequent."""
    named = heads.source in identify_heads.CORPORA and "syntactic" in heads.roles
    return replace(heads, relations=list(identify_heads.searched_relations(heads))) if named else heads


def _searching(setting: Setting, config: HeadsConfig) -> StagePlan:
    """All counts of a search."""
    counts = identify_heads.counts_of(config, partial(setting.key, identify_heads.STAGE))
    return StagePlan(identify_heads.STAGE, identify_heads.tasks_of(counts, setting))


def weighing_seconds(experiment: Experiment, texts: OtherTexts, store: Store, executor: Executor) -> float:
    """All importances on a few texts, extended to all of them."""
    config, ledger = experiment.config, Ledger(store)
    fewer = replace(texts, batches=beginnings(texts.batches))
    store.put(texts.prepared.examples_key, texts.prepared.examples, "examples")
    single = done(plan_single(config, ledger, fewer), executor)
    samples = samples_of(single, fewer.batches, (weigh_heads.STAGE,))
    joint = sum(outcome.seconds for _, outcome in done(plan_joint(config, ledger, fewer), executor))
    alone = extended(samples, weigh_heads.STAGE, texts.batches)
    return alone + joint * _rows(texts.batches) / _rows(fewer.batches)


def _rows(batches: Sequence[MicroBatch]) -> int:
    return sum(len(batch.rows) for batch in batches)


def pruning_seconds(experiment: Experiment, store: Store, executor: Executor) -> float:
    """The curves of some orders on a few examples, extended to all; what an order is does not change what it costs."""
    heads, model, prepared = experiment.config.heads, experiment.prepared.model, experiment.prepared
    if not heads.curves:
        return 0.0
    number, batches = 2 * len(heads.importance) + heads.random_orders, beginnings(experiment.batches)
    probed = range(min(PROBED_ORDERS, number))
    orders = {("", str(seed)): random_order((model.n_layers, model.n_heads), seed) for seed in probed}
    plan = plan_pruning(Ledger(store), experiment.setting, batches, prepared.examples, orders, heads.curve_steps)
    samples = samples_of(done(plan, executor), batches, (prune_heads.STAGE,))
    return extended(samples, prune_heads.STAGE, experiment.batches) * number / len(probed)
