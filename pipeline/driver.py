"""The driver: one queue of tasks for all runs, on one executor."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Protocol

from pipeline.errors import reason_to_stop
from pipeline.execution import Executor, Outcome, Task
from pipeline.schedule import Ledger, StagePlan

ASIDES = 4  # runs whose tables may be held for what is done aside, before another run is begun
DRAINING = (signal.SIGTERM, signal.SIGUSR1)  # what schedulers send before they end a job


class Stopped(KeyboardInterrupt):
    """The driver was asked to stop; the same command goes on from there."""


@dataclass(frozen=True)
class Aside:
    """Work for no worker, done in a thread of the driver's while the queue goes on; one such work at a time."""

    work: Callable[[], None]


Step = StagePlan | Aside
Steps = Generator[Step, None, None]


class Flow(Protocol):
    """A run as the driver sees it."""

    def steps(self) -> Steps:
        """Step after step; each plan's tasks, or the work aside, are done before the next is asked for.

        An exception of the work is raised where it was given.
        """

    def note(self, outcome: Outcome, task: Task) -> None:
        """Take notice of what became of a task that this run needs."""


class Watcher(Protocol):
    """Shows what happens."""

    def begin(self, flow: Flow, plan: StagePlan) -> None:
        """A stage of a run begins."""

    def advance(self, flow: Flow, task: Task) -> None:
        """A task of it is done, or has failed."""

    def end(self, flow: Flow, plan: StagePlan) -> None:
        """All its tasks are."""


@dataclass(eq=False)
class _Active:
    flow: Flow
    steps: Steps
    plan: StagePlan | None = None
    waiting: set[str] = field(default_factory=set)  # ids of the tasks its stage needs

    def proceed(self, error: BaseException | None = None) -> Step | None:
        """The next step, with `error` raised where the run stands; None where there is none."""
        try:
            return next(self.steps) if error is None else self.steps.throw(error)
        except StopIteration:
            return None


class Driver:
    """Takes runs through their stages. The next run is begun when the queue is empty; equal tasks are done once.

    A driver that is stopped still ends the runs that have nothing left to compute, and what they do aside.
    """

    def __init__(
        self,
        flows: Iterable[Flow],
        ledger: Ledger,
        watcher: Watcher,
        start: Callable[[], Executor],
        after_outcome: Callable[[Outcome], str | None] = lambda outcome: None,
        max_parallel: int | None = None,
    ) -> None:
        """`start` gives the executor, and is called for the first task; `after_outcome` may give a reason to stop."""
        self._flows, self._ledger, self._watcher = iter(flows), ledger, watcher
        self._start, self._after_outcome, self._max_parallel = start, after_outcome, max_parallel
        self._queue: deque[Task] = deque()
        self._tasks: dict[str, Task] = {}  # queued or under way
        self._active: list[_Active] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="aside")
        self._aside: dict[Future[None], _Active] = {}
        self._executor: Executor | None = None
        self._stopping: str | None = None

    def run(self) -> None:
        """Take every run to its end. Raises `Stopped` where it was stopped before that."""
        with self._signals(), self._settled():
            while (task := self._next()) is not None or self._aside:
                if task is None:
                    wait(self._aside, return_when=FIRST_COMPLETED)
                    continue
                self._queue.appendleft(task)
                if self._executor is None:
                    self._executor = self._start()
                    self._listen()  # Ray has put up its own handlers
                self._executor.run(self._next, self._done)
            if self._stopping is not None and (self._active or next(self._flows, None) is not None):
                raise Stopped(self._stopping)

    def stop(self, reason: str) -> None:
        """Begin nothing more; `run` raises `Stopped` once what is under way is done."""
        self._stopping = self._stopping or reason
        if self._executor is not None:
            self._executor.drain()

    def _next(self) -> Task | None:
        for future in [future for future in self._aside if future.done()]:
            self._resume(self._aside.pop(future), future.exception())
        while self._stopping is None and not self._queue and self._may_begin():
            flow = next(self._flows, None)
            if flow is None:
                break
            self._active.append(active := _Active(flow, flow.steps()))
            self._resume(active)
        return self._queue.popleft() if self._queue and self._stopping is None else None

    def _may_begin(self) -> bool:
        wanted = self._max_parallel is None or len(self._active) < self._max_parallel
        return wanted and len(self._aside) < ASIDES

    def _resume(self, active: _Active, error: BaseException | None = None) -> None:
        """On to the next step of a run that has something to wait for; `error` is what became of the last."""
        step = active.proceed(error)
        while isinstance(step, StagePlan):
            self._watcher.begin(active.flow, step)
            if step.tasks or step.awaited:
                self._submit(active, step)
                return
            self._watcher.end(active.flow, step)
            step = active.proceed()
        if step is None:
            self._active.remove(active)
        else:
            self._aside[self._thread.submit(step.work)] = active

    def _submit(self, active: _Active, plan: StagePlan) -> None:
        active.plan, active.waiting = plan, {task.id for task in (*plan.tasks, *plan.awaited)}
        for task in plan.tasks:
            self._ledger.claim(task)
        self._queue.extend(sorted(plan.tasks, key=lambda task: -task.effort))  # the long ones first: all end together
        self._tasks.update({task.id: task for task in plan.tasks})

    def _done(self, outcome: Outcome) -> None:
        task = self._tasks.pop(outcome.task_id)
        self._ledger.settle(task)
        if reason := self._after_outcome(outcome) or reason_to_stop(outcome):
            self.stop(reason)
        for active in [active for active in self._active if task.id in active.waiting]:
            active.flow.note(outcome, task)
            self._watcher.advance(active.flow, task)
            active.waiting.discard(task.id)
            if not active.waiting and active.plan is not None:
                self._watcher.end(active.flow, active.plan)
                self._resume(active)

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """Whatever happens, no task is left that somebody might wait for, and what is under way aside is ended."""
        try:
            yield
        finally:
            self._thread.shutdown(cancel_futures=True)
            for task in self._tasks.values():
                self._ledger.settle(task)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and SIGUSR1 stop the driver; a second one interrupts it."""
        if threading.current_thread() is not threading.main_thread():  # Python allows it nowhere else
            yield
            return
        before = {number: signal.getsignal(number) or signal.SIG_DFL for number in DRAINING}
        self._listen()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _listen(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in DRAINING:
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> Any:
        name = signal.Signals(number).name
        if self._stopping is not None:
            raise KeyboardInterrupt(name)
        self.stop(name)
