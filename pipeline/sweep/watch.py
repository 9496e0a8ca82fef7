"""What a person sees of a sweep under way: a live table in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.driver import Flow
from pipeline.execution import Task
from pipeline.execution.progress import LINE_EVERY_S, clock_time
from pipeline.schedule import StagePlan
from pipeline.sweep.job import FINISHED, Job, Status
from pipeline.terminal import shown, unguarded

SHOWN = 30  # rows of the live table; a longer sweep shows what runs and what failed


class SweepWatch:
    """Keeps the jobs' counts and shows them."""

    def __init__(self, jobs: Sequence[Job], show: Callable[[], None], say: Callable[[str], None]) -> None:
        self._jobs, self._show, self._said, self._write = jobs, show, set[str](), say
        self._told: set[int] = set()

    def say(self, text: str) -> None:
        """What a run has to tell; the same of several runs is said once."""
        if text not in self._said:
            self._said.add(text)
            self._write(text)

    def begin(self, flow: Flow, plan: StagePlan) -> None:
        """A stage begins."""
        if isinstance(flow, Job):
            flow.stage, flow.total, flow.done = plan.stage, plan.weight, 0.0
        self._show()

    def advance(self, flow: Flow, task: Task) -> None:
        """A task of it is done."""
        if isinstance(flow, Job):
            flow.done += task.weight
        self._show()

    def end(self, flow: Flow, plan: StagePlan) -> None:
        """The stage is done; the ends of jobs before it are told."""
        self.tell()
        self._show()

    def tell(self) -> None:
        """A line for each job that has ended since."""
        for index, job in enumerate(self._jobs):
            if job.status in (*FINISHED, Status.FAILED) and index not in self._told:
                self._told.add(index)
                self._write(told(job))


def told(job: Job) -> str:
    """How a job ended: `done seed=1 in 0:05`."""
    if job.status is Status.DONE_BEFORE:
        return f"{job.status}: {job.cell.label}"
    error = f": {job.error}" if job.error else ""
    return f"{job.status} {job.cell.label} in {clock_time(job.seconds)}{error}"


@contextmanager
def watching(jobs: Sequence[Job], stream: TextIO | None = None) -> Iterator[SweepWatch]:
    """A watch for as long as the context is open."""
    console = Console(file=unguarded(stream or sys.stderr))
    if not console.is_terminal:
        write = line_writer(console)
        watch = SweepWatch(jobs, occasionally(lambda: write(summary(jobs))), write)
        yield watch
        watch.tell()
        return
    with Live(table(jobs), console=console, refresh_per_second=4) as live:
        watch = SweepWatch(
            jobs, lambda: live.update(table(jobs)), lambda text: live.console.print(shown(text), markup=False)
        )
        yield watch
        watch.tell()
        live.update(table(jobs))


def line_writer(console: Console) -> Callable[[str], None]:
    """Plain lines, at once."""
    return lambda text: print(shown(text), file=console.file, flush=True)


def occasionally(show: Callable[[], None], every_s: float = LINE_EVERY_S) -> Callable[[], None]:
    """`show`, but not more often than every `every_s` seconds."""
    due = time.monotonic() + every_s

    def show_if_due() -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + every_s
            show()

    return show_if_due


def summary(jobs: Sequence[Job]) -> str:
    """All of it in a line: `sweep: 3 done, 2 running (seed=1 attribute 40/96), 19 waiting`."""
    counts = Counter(job.status for job in jobs)
    running = ", ".join(f"{job.cell.label} {_stage(job)}" for job in jobs if job.status is Status.RUNNING)
    parts = [f"{counts[status]} {status}" + (f" ({running})" if status is Status.RUNNING else "") for status in counts]
    return "sweep: " + ", ".join(parts)


def table(jobs: Sequence[Job]) -> Table:
    """A row for each job, or for those that matter now where there are many."""
    listed = jobs if len(jobs) <= SHOWN else [job for job in jobs if job.status in (Status.RUNNING, Status.FAILED)]
    grid = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("job", "status", "stage", "time"):
        grid.add_column(name)
    for job in listed[:SHOWN]:
        grid.add_row(
            Text(shown(job.cell.label)), str(job.status), _stage(job), clock_time(job.seconds) if job.seconds else ""
        )
    grid.caption = summary(jobs) if len(jobs) > SHOWN else None
    return grid


def _stage(job: Job) -> str:
    return f"{job.stage} {job.done:g}/{job.total:g}" if job.status is Status.RUNNING and job.stage else ""
