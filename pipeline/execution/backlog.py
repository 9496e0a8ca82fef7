"""Tasks of a run that nobody works on yet."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

from pipeline.execution.task import NextTask, Outcome, Task


@dataclass
class Job:
    """A task, and what the workers that tried it died of."""

    task: Task
    deaths: list[str] = field(default_factory=list)
    seconds: float = 0.0  # spent on attempts that were lost

    def given_up(self, worker: str) -> Outcome:
        """The outcome of a task whose every attempt ended its worker; `worker` was the last."""
        causes = "; ".join(f"({number}) {death}" for number, death in enumerate(self.deaths, start=1))
        error = f"WorkerLost: every attempt ended its worker: {causes}"
        return Outcome(self.task.id, False, {}, error, None, self.seconds, worker, attempts=len(self.deaths))


class Backlog:
    """Jobs in the order of their tasks; reads ahead only so far as choosing among them needs."""

    def __init__(self, next_task: NextTask, ahead: int) -> None:
        self._next_task = next_task
        self._ahead = ahead
        self._jobs: list[Job] = []

    def __len__(self) -> int:
        """How many jobs were read and wait."""
        return len(self._jobs)

    def read(self) -> None:
        """Read ahead as far as there are tasks for now."""
        while len(self._jobs) < self._ahead and (task := self._next_task()) is not None:
            self._jobs.append(Job(task))

    def take(self, warm: Set[str] | None = None) -> Job | None:
        """The first job; with `warm`, the first whose affinity is among these."""
        for position, job in enumerate(self._jobs):
            if warm is None or job.task.affinity in warm:
                del self._jobs[position]
                self.read()
                return job
        return None

    def clear(self) -> None:
        """Forget the jobs; they are done another time."""
        self._jobs.clear()

    def put_back(self, job: Job) -> None:
        """Give a job back, to be taken next."""
        self._jobs.insert(0, job)
