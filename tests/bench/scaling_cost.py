"""Two workers against two processes without Ray, and one Ray worker against the local executor over five minutes."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from executor_cost import loop, must_succeed, saved_model, tasks_of, timed, write_examples
from timing import Ratio

from pipeline.config import ClusterConfig
from pipeline.execution import Executor, Site, Task, check_cluster, create_executor, in_order
from pipeline.store import Store
from pipeline.worker import ModelRef, StageWorker, WorkerSettings

SHORT, LONG = 60.0, 300.0  # seconds that each side works for
LOCAL = ClusterConfig(executor="local", threads=1)


def costs() -> Iterator[Ratio]:
    """Both comparisons, in turns of a few seconds."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model, settings = saved_model(root / "model"), WorkerSettings(str(root / "store"))
        write_examples(Store(root / "store"))
        with create_executor(settings, _site(2)) as ray, bare_processes(settings, 2) as bare:
            yield _in_turns("two ray workers", ray, "two bare processes", bare, model, 1 / 0.9, SHORT)
        with create_executor(settings, _site(1)) as ray, create_executor(settings, check_cluster(LOCAL)) as local:
            yield _in_turns("one ray worker", ray, "local executor", Through(local), model, 1.05, LONG)


def _site(workers: int) -> Site:
    return check_cluster(ClusterConfig(executor="ray", workers=workers, threads=1))


class Through:
    """Tasks done by an executor."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def __call__(self, tasks: Sequence[Task]) -> None:
        """Do them all."""
        self._executor.run(in_order(tasks), must_succeed)


class Bare:
    """Tasks dealt out to processes that know nothing of each other."""

    def __init__(self, ends: Sequence[Connection]) -> None:
        self._ends = ends

    def __call__(self, tasks: Sequence[Task]) -> None:
        """Do them all; the last process to end decides."""
        for number, end in enumerate(self._ends):
            end.send(tasks[number :: len(self._ends)])
        for end in self._ends:
            if end.recv() != "done":
                raise RuntimeError("a process failed; see above")


@contextmanager
def bare_processes(settings: WorkerSettings, n: int) -> Iterator[Bare]:
    """So many processes with one thread each."""
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(n)]
    processes = [context.Process(target=_serve, args=(theirs, settings)) for _, theirs in pipes]
    for process in processes:
        process.start()
    try:
        yield Bare([ours for ours, _ in pipes])
    finally:
        for (ours, _), process in zip(pipes, processes, strict=True):
            ours.send(None)
            process.join()


def _serve(end: Connection, settings: WorkerSettings) -> None:
    torch.set_num_threads(1)
    worker = StageWorker(settings)
    while (tasks := end.recv()) is not None:
        loop(worker, tasks)
        end.send("done")


def _in_turns(
    name: str, ray: Executor, unit: str, baseline: Through | Bare, model: ModelRef, limit: float, seconds: float
) -> Ratio:
    through = Through(ray)
    through(tasks_of(model, f"{name} warm-up", 4))
    baseline(tasks_of(model, f"{unit} warm-up", 4))
    pairs: list[tuple[float, float]] = []
    while sum(plain for _, plain in pairs) < seconds:
        turn = len(pairs)
        measured = timed(lambda turn=turn: through(tasks_of(model, f"{name} {turn}")))  # type: ignore[misc]
        pairs.append((measured, timed(lambda turn=turn: baseline(tasks_of(model, f"{unit} {turn}")))))  # type: ignore[misc]
    total = sum(plain for _, plain in pairs)
    return Ratio(name, f"{unit}, {total:.0f} s in all", limit, [a / b for a, b in pairs], total / len(pairs))
