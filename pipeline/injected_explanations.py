"""Explanations of models with patterns and of their controls: how faithful each is to its own model."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from evaluation import METRICS
from evaluation.statistics.moments import Floats
from pipeline.arms import Arm
from pipeline.collect import in_order_of
from pipeline.config import Config
from pipeline.execution.task import Task
from pipeline.schedule import StagePlan, plan_whole
from pipeline.stages import score_injected
from pipeline.stages.score_injected import Scoring

if TYPE_CHECKING:
    from pipeline.experiment import Experiment

Files = Mapping[Arm, Mapping[str, Any] | None]  # None: the model as it is


@dataclass(frozen=True)
class Explained:
    """Values of each arm, by metric; nothing where no arm is explained."""

    higher_is_better: Mapping[str, bool] = field(default_factory=dict)
    tables: Mapping[Arm, pa.Table] = field(default_factory=dict)

    def of(self, arm: Arm, examples: pa.Table) -> list[Floats]:
        """[K, n] of these examples, none where nothing is explained."""
        if not self.tables:
            return []
        return [np.array(in_order_of(examples, self.tables[arm])["values"].to_pylist(), dtype=np.float64).T]


def scored_metrics(config: Config) -> list[str]:
    """The metrics of a run that perturbing alone decides: they say of any model what an explanation is worth."""
    told = {"tokens", "attention_mask", "special_tokens_mask", "scores"}
    asked = [METRICS[metric] for metric in config.evaluation.metrics if metric in METRICS]
    return [metric.id for metric in asked if metric.prepared and set(metric.needs) <= {*metric.prepared, *told}]


def metrics_of(config: Config) -> dict[str, bool]:
    """The same, and whether more of each is better."""
    return {metric: METRICS[metric].higher_is_better for metric in scored_metrics(config)}


def scoring(experiment: Experiment, files: Files) -> Generator[StagePlan, None, Explained]:
    """Explain every arm and score that, where it is asked for."""
    if experiment.config.patterns.explained is None:
        return Explained()
    tables = yield from experiment.whole(lambda: plan_scoring(experiment, files))
    better = metrics_of(experiment.config)
    found = {arm: [tables[task.id] for task in _tasks(experiment, file)] for arm, file in files.items()}
    return Explained(better, {arm: pa.concat_tables(each) for arm, each in found.items()})


def plan_scoring(experiment: Experiment, files: Files) -> StagePlan:
    """A task for each microbatch and model."""
    tasks = {task.id: task for file in files.values() for task in _tasks(experiment, file)}
    return plan_whole(experiment.ledger, score_injected.STAGE, tasks.values())


def _tasks(experiment: Experiment, file: Mapping[str, Any] | None) -> list[Task]:
    how = scoring_of(experiment)
    return [score_injected.task_of(experiment.setting, batch, file, how) for batch in experiment.batches]


def scoring_of(experiment: Experiment) -> Scoring:
    """How every arm is explained, and what that is scored by."""
    config = experiment.config
    asked = config.evaluation
    label = str(config.patterns.explained)
    method = experiment.methods.get(label) or dict(config.attribution[label])  # plans are made before heads are found
    about = (asked.operator, asked.levels, asked.unit, asked.seed, config.explain.hide_separators)
    return Scoring(method, tuple(scored_metrics(config)), *about)
