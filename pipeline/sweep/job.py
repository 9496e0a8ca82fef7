"""One run of a sweep: an ordinary run whose failure is its own."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass, field
from enum import StrEnum

from attribution.errors import HeadlightError
from pipeline.driver import Steps
from pipeline.errors import StorageError
from pipeline.execution import Outcome, Task
from pipeline.run import RecordedRun
from pipeline.sweep.expand import Cell


class Status(StrEnum):
    """What became of a cell."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    DONE_BEFORE = "done before"
    FAILED = "failed"
    SKIPPED = "skipped"


FINISHED = (Status.DONE, Status.DONE_BEFORE)


@dataclass
class Job:
    """A cell of the sweep on its way; `run` is None where it is skipped."""

    cell: Cell
    run: RecordedRun | None
    status: Status = Status.WAITING
    error: str | None = None
    trace: str | None = None
    seconds: float = 0.0
    done: float = 0.0  # of the stage's weight
    stage: str = ""
    total: float = 0.0
    _began: float = field(default=0.0, repr=False)

    def __post_init__(self) -> None:
        if self.cell.skipped:
            self.status, self.error = Status.SKIPPED, self.cell.skipped

    def steps(self) -> Steps:
        """The run's stages; what stops it is noted, and the sweep goes on."""
        assert self.run is not None
        self.status, self._began = Status.RUNNING, time.monotonic()
        try:
            with self.run.tracker:
                yield from self.run.steps()
        except StorageError:  # no other job fares better
            raise
        except HeadlightError as error:
            self._failed(str(error))
        except Exception as error:
            self._failed(f"{type(error).__name__}: {error}")
            self.trace = traceback.format_exc()
        else:
            self._ended()
        self.seconds = time.monotonic() - self._began

    def note(self, outcome: Outcome, task: Task) -> None:
        """Keep what became of a task."""
        assert self.run is not None
        self.run.note(outcome, task)

    def _failed(self, error: str) -> None:
        self.status, self.error = Status.FAILED, error.splitlines()[0]

    def _ended(self) -> None:
        assert self.run is not None
        failures = self.run.experiment.facts.failures
        finished = Status.DONE_BEFORE if self.run.done_before else Status.DONE
        self.status = Status.FAILED if failures else finished
        self.error = str(failures[0]["error"]) if failures else None
