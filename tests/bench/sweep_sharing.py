"""What a sweep saves: 24 attribution configurations of one model, data set and head search, against 24 runs alone.

A tiny model, or minilm-sst2 on 64 sentences of SST-2 where HEADLIGHT_MODELS and HEADLIGHT_DATA say where they are.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow.parquet as pq

from attribution.explainer import Explainer
from pipeline.stages import STAGES
from pipeline.worker import ModelRef, StageWorker, WorkerSettings

JOBS = 24
MASKS = ",".join(f'"corrupted(0.5, {seed})"' for seed in range(JOBS))
METHODS = [  # two that all jobs share, and one of each job's own
    "attribution=none",
    "attribution.gradcam.method=gradcam",
    "attribution.random.method=random",
    "attribution.mine.method=mask_lrp",
    f"attribution.mine.head_mask={MASKS}",
]
EXECUTORS = {"one local worker": ["cluster=local"], "two Ray workers": ["cluster=ray", "cluster.workers=2"]}
LOADS = "loads"  # the file that says who loaded a model


@dataclass(frozen=True)
class Shared:
    """The results of one stage in a sweep, and those that its jobs would compute one by one."""

    stage: str
    tasks: int
    computed: int
    alone: int

    def __str__(self) -> str:
        saved = f"{self.alone / self.computed:.1f} times as many" if self.computed else "none"
        return f"{self.stage:16s} {self.computed:5d} results in {self.tasks:4d} tasks; alone {self.alone:5d} ({saved})"


class CountedLoads(StageWorker):
    """A worker that notes every model it loads beside the store."""

    def explainer(self, ref: ModelRef) -> Explainer:
        """The model of a task."""
        return self._explainers.get(ref, lambda: self._load(ref))

    def _load(self, ref: ModelRef) -> Explainer:
        with (Path(self.settings.store).parent / LOADS).open("a") as file:
            file.write(f"{os.getpid()}\n")
        return ref.load()


class CountingSettings(WorkerSettings):
    """Makes such workers."""

    def __call__(self) -> CountedLoads:
        """The worker."""
        return CountedLoads(self)


def counts() -> Iterator[str]:
    """Results and tasks by stage; AssertionError where something shared was done more than once."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    for name, cluster in EXECUTORS.items():
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            yield f"a sweep of {JOBS} attribution configurations, {name}"
            stages, loads = _swept([*_experiment(Path(folder)), *METHODS, *cluster])
            yield from (f"  {shared}" for shared in stages)
            yield f"  models loaded: {dict(loads)} (process: times)"
            _check({shared.stage: shared for shared in stages}, loads)


def _experiment(folder: Path) -> list[str]:
    common = ["name=sharing", "heads=grammar", "heads.sentences=150", "tracking=none", "paths.root=outputs"]
    if {"HEADLIGHT_MODELS", "HEADLIGHT_DATA"} <= os.environ.keys():
        return ["experiment=sst2", "dataset.limit=64", *common]
    from tiny_experiment import tiny_overrides
    from tiny_models import save_tiny

    return [*tiny_overrides(save_tiny("bert", folder / "tiny"), folder), *common]


def _swept(overrides: list[str]) -> tuple[list[Shared], Counter[str]]:
    from pipeline.sweep.run import run_sweep

    with patch("pipeline.run.WorkerSettings", CountingSettings):
        result = run_sweep(overrides)
    assert result.exit_code == 0, f"{result.folder} has failures"
    jobs = json.loads((result.folder / "sweep.json").read_text())["jobs"]
    return list(_stages(result.folder, jobs)), Counter((Path("outputs") / LOADS).read_text().split())


def _stages(folder: Path, jobs: list[dict[str, Any]]) -> Iterator[Shared]:
    shards = [folder / job["folder"] / "shards.parquet" for job in jobs]
    tasks = {(row["stage"], row["task"]) for path in shards if path.exists() for row in pq.read_table(path).to_pylist()}
    for stage in STAGES:
        reuse = [job["reuse"][stage] for job in jobs]
        computed = sum(count["computed"] for count in reuse)
        alone = computed + sum(count["reused"] for count in reuse)
        yield Shared(stage, sum(own == stage for own, _ in tasks), computed, alone)


def _check(stages: dict[str, Shared], loads: Counter[str]) -> None:
    """Heads searched once, predictions made once, shared methods too, the model loaded once by each worker."""
    for stage in ("load_model", "identify_heads"):
        assert stages[stage].alone == JOBS * stages[stage].computed == JOBS * stages[stage].tasks, stages[stage]
    batches = stages["load_model"].computed
    assert stages["attribute"].alone == 3 * JOBS * batches, stages["attribute"]
    assert stages["attribute"].computed <= (2 + JOBS) * batches, stages["attribute"]
    assert stages["evaluate"].computed * 3 * JOBS <= stages["evaluate"].alone * (2 + JOBS), stages["evaluate"]
    assert set(loads.values()) == {1}, loads
