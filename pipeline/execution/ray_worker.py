"""The end of the Ray pool that runs on a worker's node."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Sequence
from dataclasses import dataclass

import ray
import torch

from pipeline.execution.task import Outcome, Task, WorkerFactory, WorkerSlot
from pipeline.keys import source_digest


@dataclass(frozen=True)
class Hello:
    """What a worker says when it is ready."""

    name: str  # host:pid
    log: str  # where its standard error goes, on its host
    code: str  # digest of the code it runs
    node: str  # Ray's id of it


class RayWorker:
    """A warm worker; everything it returns are records, since exceptions do not all survive the way."""

    def __init__(self, factory: WorkerFactory, threads: int, device: str) -> None:
        torch.set_num_threads(threads)
        self._slot = WorkerSlot(factory, f"{socket.gethostname()}:{os.getpid()}", device)

    def hello(self, modules: Sequence[str]) -> Hello:
        """Tell where this worker is and what code of `modules` it runs."""
        node = ray.get_runtime_context().get_node_id()
        return Hello(self._slot.name, _log_path(), source_digest(modules), node)

    def process(self, task: Task) -> bytes:
        """Do one task; returns its pickled outcome."""
        outcome = self._slot.run(task)
        try:
            return pickle.dumps(outcome)
        except Exception as error:
            return pickle.dumps(_unsendable(outcome, error))


def _unsendable(outcome: Outcome, error: Exception) -> Outcome:
    message = f"{type(error).__name__}: the result of {outcome.task_id} cannot be sent: {error}"
    return Outcome(outcome.task_id, False, {}, message, None, outcome.seconds, outcome.worker, outcome.attempts)


def _log_path() -> str:
    link = "/proc/self/fd/2"  # Ray redirects every worker's standard error to a file of its own
    return os.readlink(link) if os.path.exists(link) else "the session's folder in Ray's temporary directory"
