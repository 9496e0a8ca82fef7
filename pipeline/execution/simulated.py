"""An executor without workers: tasks take the time they are said to take, on a clock of its own.

It shows what the driver itself can do, and how long a run would take on machines that are not there.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from pipeline.execution.backlog import Backlog, Job
from pipeline.execution.task import NextTask, OnOutcome, Outcome, Task


@dataclass
class Bench:
    """A worker that does not exist: what it is warm for, and how long it has worked."""

    number: int
    warm: set[str] = field(default_factory=set)
    busy_s: float = 0.0


class SimulatedExecutor:
    """Gives tasks to idle workers in the order the Ray pool would, the first to become free first."""

    gpus = 1.0

    def __init__(self, workers: int, seconds_of: Callable[[Task], float], load_s: float = 0.0) -> None:
        """`load_s` is what a worker takes to load a model it has not held yet."""
        self.workers, self.now = workers, 0.0
        self._seconds_of, self._load_s, self._draining = seconds_of, load_s, False
        self._idle = [Bench(number) for number in range(workers)]
        self._busy: list[tuple[float, int, Bench, Job]] = []

    @property
    def utilisation(self) -> float:
        """Share of the workers' time that was spent on tasks."""
        worked = sum(bench.busy_s for bench in self._idle)
        return worked / (self.workers * self.now) if self.now else 0.0

    def run(self, next_task: NextTask, on_outcome: OnOutcome) -> None:
        """Do tasks until there is none, in simulated time."""
        backlog = Backlog(next_task, self.workers)
        while True:
            if not self._draining:
                backlog.read()
                self._dispatch(backlog)
            if not self._busy:
                return
            self.now, _, bench, job = heapq.heappop(self._busy)
            self._idle.append(bench)
            seconds = self._seconds_of(job.task)
            on_outcome(Outcome(job.task.id, True, {}, None, None, seconds, f"simulated:{bench.number}", attempts=1))

    def drain(self) -> None:
        """Give out nothing more."""
        self._draining = True

    def close(self) -> None:
        """There is nothing to give back."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _dispatch(self, backlog: Backlog) -> None:
        for prefer_warm in (True, False):
            waiting = []
            for bench in self._idle:
                job = backlog.take(bench.warm if prefer_warm else None)
                if job is None:
                    waiting.append(bench)
                else:
                    self._begin(bench, job)
            self._idle = waiting

    def _begin(self, bench: Bench, job: Job) -> None:
        loading = 0.0 if job.task.affinity in bench.warm else self._load_s
        bench.warm.add(job.task.affinity)
        took = loading + self._seconds_of(job.task)
        bench.busy_s += took
        heapq.heappush(self._busy, (self.now + took, bench.number, bench, job))
