"""`make simulate`: what the driver can do where workers are no limit. 100,000 shards of a sweep on 256 GPUs.

Every shard takes the time that one like it took in a real run (`shards.parquet` of a run folder), drawn by its id; the
driver plans, queues, hands out and settles for real, the store only notes what is in it.
"""

from __future__ import annotations

import argparse
import gc
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.config import Config, EvaluationConfig, ExplainConfig
from pipeline.driver import Driver, Flow, Steps
from pipeline.execution import Outcome, Task
from pipeline.execution.simulated import SimulatedExecutor
from pipeline.manifest import Facts
from pipeline.microbatch import MicroBatch
from pipeline.schedule import Ledger, StagePlan, plan_attribution, plan_evaluation
from pipeline.stages.setting import Setting
from pipeline.store import Store
from pipeline.worker import ModelRef

ROWS = 16  # examples of a microbatch
METHODS = ("mask_lrp", "gradcam", "attcat", "random")


class Noted(Store):
    """A store that knows what was put into it, and holds nothing."""

    def __init__(self) -> None:
        super().__init__("nowhere")
        self.keys: set[str] = set()

    def held(self, keys: Any, stage: str) -> set[str]:
        """Those that were noted."""
        return {key for key in keys if key in self.keys}


@dataclass
class Synthetic:
    """A run of made-up microbatches: attribution, then evaluation."""

    number: int
    batches: list[MicroBatch]
    ledger: Ledger
    store: Noted
    facts: Facts = field(default_factory=Facts)
    shards: int = 0

    def steps(self) -> Steps:
        """Both stages."""
        config = Config(name=f"run-{self.number}", seed=self.number)
        config.evaluation, config.explain = EvaluationConfig(), ExplainConfig()
        model = ModelRef("nowhere", f"model-{self.number % 4}", "float32", "cuda")
        setting = Setting(model, f"examples-{self.number}", 1, True, {})
        targets = [0] * (ROWS * len(self.batches))
        methods = {label: {"method": label, "seed": self.number} for label in METHODS}
        scores = plan_attribution(config, setting, self.ledger, self.batches, targets, methods)
        yield self._counted(scores)
        yield self._counted(plan_evaluation(config, setting, self.ledger, self.batches, targets, scores.keys))

    def note(self, outcome: Outcome, task: Task) -> None:
        """As a real run does; the store takes the results."""
        self.facts.note(outcome, task)
        self.store.keys.update(task.results)

    def _counted(self, plan: StagePlan) -> StagePlan:
        self.shards += len(plan.tasks)
        return plan


class Silent:
    """Shows nothing."""

    def begin(self, flow: Flow, plan: StagePlan) -> None:
        """A stage begins."""

    def advance(self, flow: Flow, task: Task) -> None:
        """A task is done."""

    def end(self, flow: Flow, plan: StagePlan) -> None:
        """A stage is done."""


def microbatches(run: int, count: int) -> list[MicroBatch]:
    """Microbatches of items that no other run has."""
    return [
        MicroBatch(
            tuple(range(ROWS * index, ROWS * (index + 1))),
            tuple(f"{run:08x}{ROWS * index + row:08x}" for row in range(ROWS)),
            32,
        )
        for index in range(count)
    ]


def timings(folder: Path | None) -> dict[str, Sequence[float]]:
    """Seconds of the shards of a real run by stage; of a plain 2 s shard where none is named."""
    if folder is None:
        return {"attribute": [1.0, 2.0, 3.0], "evaluate": [1.0, 2.0, 3.0]}
    table = pq.read_table(folder / "shards.parquet").to_pylist()
    return {stage: [row["seconds"] for row in table if row["stage"] == stage] for stage in ("attribute", "evaluate")}


def runs(shards: int, of: int, ledger: Ledger, store: Noted) -> Iterator[Synthetic]:
    """`of` runs with `shards` tasks together, half of them for each stage."""
    for number in range(of):
        yield Synthetic(number, microbatches(number, shards // (2 * of)), ledger, store)


def simulate(shards: int, workers: int, of: int, drawn: dict[str, Sequence[float]]) -> None:
    """Print throughput, memory and queueing."""
    store = Noted()
    ledger = Ledger(store)
    executor = SimulatedExecutor(
        workers, lambda task: drawn[task.stage][int(task.id[:8], 16) % len(drawn[task.stage])], load_s=5.0
    )
    flows = list(runs(shards, of, ledger, store))
    gc.collect()
    started = time.perf_counter()
    Driver(flows, ledger, Silent(), lambda: executor).run()
    taken = time.perf_counter() - started
    done = sum(flow.shards for flow in flows)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{done:,} shards of {of} runs on {workers} workers: {taken:.1f} s of driver, {done / taken:,.0f} shards/s")
    print(f"memory: {peak:.2f} GiB at most")
    print(f"simulated: {executor.now:,.0f} s, workers busy {executor.utilisation:.1%} of it")


def main() -> None:
    """Read the arguments and simulate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=256)
    parser.add_argument("--runs", type=int, default=25)
    parser.add_argument("--timings", type=Path, metavar="RUN", help="a run folder whose shards.parquet is replayed")
    arguments = parser.parse_args()
    simulate(arguments.shards, arguments.workers, arguments.runs, timings(arguments.timings))


if __name__ == "__main__":
    main()
