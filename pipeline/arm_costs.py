"""What a text costs the models of each arm, as values that are compared like any others."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from evaluation.injections import ArmComparison
from evaluation.statistics.moments import Floats
from pipeline.arm_models import Making
from pipeline.arms import Arm, compared
from pipeline.execution.task import Task
from pipeline.schedule import StagePlan, plan_whole
from pipeline.stages import measure_costs
from pipeline.stages.measure_costs import Measured

if TYPE_CHECKING:
    from pipeline.experiment import Experiment

COSTED = 32  # texts that are measured
METRICS = {"mflops": False, "milliseconds": False, "sparsity": True}  # of a text, and whether more of it is better
SCALES = {"mflops": ("flops", 1e-6), "milliseconds": ("seconds", 1e3), "sparsity": ("sparsity", 1.0)}


def costing(
    experiment: Experiment, makings: Mapping[Arm, Making], texts: Measured
) -> Generator[StagePlan, None, ArmComparison]:
    """Measure the models of each seed side by side."""
    tables = yield from experiment.whole(lambda: plan_costs(experiment, makings, texts))
    values = {
        (arm, seed): _values(tables[task.id], arm)
        for seed, task in tasks_of(experiment, makings, texts).items()
        for arm in task.payload["makings"]
    }
    items = [str(number) for number in range(texts.number)]
    return compared(values, items, METRICS, experiment.config.evaluation.bootstrap_samples)


def plan_costs(experiment: Experiment, makings: Mapping[Arm, Making], texts: Measured) -> StagePlan:
    """A task for each seed."""
    tasks = tasks_of(experiment, makings, texts).values()
    return plan_whole(experiment.ledger, measure_costs.STAGE, tasks)


def tasks_of(experiment: Experiment, makings: Mapping[Arm, Making], texts: Measured) -> dict[int, Task]:
    """The tasks by seed."""
    by_seed: dict[int, dict[str, Making]] = {}
    for (arm, seed), making in makings.items():
        by_seed.setdefault(seed, {})[arm] = making
    return {seed: measure_costs.task_of(experiment.setting, texts, each) for seed, each in by_seed.items()}


def costed_examples(experiment: Experiment) -> Measured:
    """The first examples of the run."""
    prepared, segments = experiment.prepared, experiment.setting.segment_ids
    number = min(COSTED, prepared.examples.num_rows)
    return Measured(prepared.examples_key, measure_costs.EXAMPLES, number, segment_ids=segments)


def _values(table: pa.Table, arm: str) -> Floats:
    """[K, n]: of `METRICS`."""
    own = table.filter(pc.field("arm") == arm)
    return np.stack([own[column].to_numpy() * scale for column, scale in SCALES.values()])
