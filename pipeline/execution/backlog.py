"""Tasks of a run that nobody works on yet, and what became of earlier attempts at them."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field, replace

from pipeline.execution.search import PoisonSearch
from pipeline.execution.task import NextTask, Outcome, Task, describe_poison

AHEAD = 2  # jobs to choose from for each worker


@dataclass
class Job:
    """A task, and what the workers that tried it died of."""

    task: Task
    deaths: list[str] = field(default_factory=list)
    seconds: float = 0.0  # spent on attempts that gave no outcome
    search: PoisonSearch | None = None

    def attempt(self) -> Task:
        """What a worker is to do: the task, or the next step in finding out why it ends its workers."""
        return self.search.attempt() if self.search else self.task

    def died(self, cause: str, seconds: float) -> None:
        """The attempt ended its worker."""
        self.deaths.append(cause)
        self.seconds += seconds
        if self.search:
            self.search.died(cause)

    def goes_on(self, attempts: int, *, divide: bool) -> bool:
        """Whether to try again after a death; after so many `attempts` only to find the examples that are to blame."""
        if len(self.deaths) < attempts:
            return True
        if divide and self.search is None and len(self.task.items) > 1:
            self.search = PoisonSearch(self.task)
        return self.search is not None and self.search.goes_on()

    def answered(self, outcome: Outcome) -> Outcome | None:
        """The outcome of the job; None if it goes on."""
        if self.search:
            self.search.answered(outcome)
            if self.search.goes_on():
                self.seconds += outcome.seconds
                return None
            if self.search.found():
                return self.given_up(outcome.worker)
        return replace(outcome, attempts=len(self.deaths) + 1)

    def given_up(self, worker: str) -> Outcome:
        """The outcome of a task that ends its workers, or of which some examples do; `worker` was the last."""
        causes = "; ".join(f"({number}) {death}" for number, death in enumerate(self.deaths, start=1))
        error = f"WorkerLost: every attempt ended its worker: {causes}"
        poison = self.search.found() if self.search else ()
        if len(self.task.items) == 1:
            poison = ((self.task.items[0], error),)
        if poison:
            error = describe_poison(poison, len(self.task.items))
        return Outcome(self.task.id, False, {}, error, None, self.seconds, worker, len(self.deaths), poison=poison)


class Backlog:
    """Jobs in the order of their tasks; reads ahead only so far as choosing among them needs."""

    def __init__(self, next_task: NextTask, workers: int) -> None:
        self.workers = workers
        self._next_task = next_task
        self._jobs: list[Job] = []

    def __len__(self) -> int:
        """How many jobs were read and wait."""
        return len(self._jobs)

    def read(self) -> None:
        """Read ahead as far as there are tasks for now."""
        while len(self._jobs) < AHEAD * self.workers and (task := self._next_task()) is not None:
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
