"""One actor of the Ray pool, as the driver sees it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from ray.exceptions import RayError

from pipeline.execution.backlog import Job
from pipeline.execution.ray_worker import Hello

CAUSE_CHARACTERS = 300


@dataclass
class Member:
    """An actor of the pool. It starts (no `hello` yet), is idle (no `ref`), or does its `job`."""

    actor: Any
    ref: Any  # the answer that is awaited from it
    nodes: frozenset[str]  # that were alive when it was started
    hello: Hello | None = None
    job: Job | None = None
    since: float = field(default_factory=time.monotonic)
    warm: set[str] = field(default_factory=set)  # affinities of what it has done

    def assign(self, job: Job) -> None:
        """Send it a job."""
        self.job, self.since = job, time.monotonic()
        self.warm.add(job.task.affinity)
        self.ref = self.actor.process.remote(job.attempt())

    def release(self) -> Job | None:
        """Its job, if it has one, which it no longer does."""
        job, self.job, self.ref = self.job, None, None
        return job

    @property
    def node(self) -> str | None:
        """Ray's id of its node, once it is known."""
        return self.hello.node if self.hello else None

    @property
    def name(self) -> str:
        """Host and process, once they are known."""
        return self.hello.name if self.hello else "(starting)"


def cause_of(error: RayError) -> str:
    """Why an actor is lost, in a line: Ray's detail without its general advice, or the end of a traceback."""
    text = " ".join(str(error).split())
    detail = text.rpartition("Worker exit detail: ")[2].partition(" Some common causes")[0]
    return detail[-CAUSE_CHARACTERS:]
