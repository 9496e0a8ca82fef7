"""How tasks are carried out: in this process, or on a pool of Ray workers."""

from __future__ import annotations

from pipeline.execution.task import Executor, Outcome, Task, Worker, WorkerFactory

__all__ = ["Executor", "Outcome", "Task", "Worker", "WorkerFactory"]
