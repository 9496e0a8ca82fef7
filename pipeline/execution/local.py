"""The executor without Ray: one worker in this process."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import torch

from pipeline.execution.task import NextTask, OnOutcome, WorkerFactory, WorkerSlot


class LocalExecutor:
    """Does the tasks one after the other, in order; the same threads give the same bytes elsewhere."""

    workers = 1

    def __init__(self, factory: WorkerFactory, threads: int | None = None, device: str = "cpu") -> None:
        self.gpus = float(device == "cuda")
        self._slot = WorkerSlot(factory, "local", device)
        self._draining = False
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(threads or self._threads_before)

    def run(self, next_task: NextTask, on_outcome: OnOutcome) -> None:
        """Do one task after the other; an interruption passes through, with nothing reported for the task it hit."""
        while not self._draining and (task := next_task()) is not None:
            on_outcome(self._slot.run(task))

    def drain(self) -> None:
        """Begin no other task."""
        self._draining = True

    def close(self) -> None:
        """Give torch its thread count back."""
        torch.set_num_threads(self._threads_before)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
