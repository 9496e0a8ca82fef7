"""Where results are computed: in this process or on a Ray cluster."""

from __future__ import annotations

from pipeline.execution.preflight import check_cluster, create_executor, joins_cluster
from pipeline.execution.progress import Progress, make_progress
from pipeline.execution.resources import Needs, worker_threads
from pipeline.execution.site import Site
from pipeline.execution.task import Executor, NextTask, Outcome, Task, Worker, WorkerFactory, in_order

__all__ = [
    "Executor",
    "Needs",
    "NextTask",
    "Outcome",
    "Progress",
    "Site",
    "Task",
    "Worker",
    "WorkerFactory",
    "check_cluster",
    "create_executor",
    "in_order",
    "joins_cluster",
    "make_progress",
    "worker_threads",
]
