"""The Ray executor: a pool of actors supervised by the driver.

Ray's own retries are off (`max_restarts=0`, `max_task_retries=0`): they are spent while an actor restarts, and without
capacity they wait for ever. The driver replaces a lost actor and gives its task to another, up to `cluster.attempts`
times. A lost actor may have finished its task all the same, so a task may be done twice: writes must be idempotent.
"""

from __future__ import annotations

import logging
import math
import pickle
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import RayError

from attribution.errors import HeadlightError
from pipeline.config import ClusterConfig
from pipeline.execution.backlog import Backlog, Job
from pipeline.execution.ray_cluster import connect
from pipeline.execution.ray_member import Member, cause_of
from pipeline.execution.ray_worker import Hello, RayWorker
from pipeline.execution.resources import Node, room, worker_demand
from pipeline.execution.task import NextTask, OnOutcome, WorkerFactory, in_order
from pipeline.execution.watchdog import AtWork, Watchdog
from pipeline.keys import PACKAGES, source_digest

logger = logging.getLogger(__name__)

TICK_S = 0.5
QUIET_S = 60.0  # after so long without an answer the log says what is waited for; later where all are at work
FOLLOW_S = 2.0  # how often to look for nodes that joined or left
NODE_ID = "ray.io/node-id"  # a label that Ray gives every node
FRUITLESS = 2  # after so many tasks given up without an example to blame, no more are searched for one


@dataclass
class Run:
    """One call of `RayExecutor.run`."""

    backlog: Backlog
    on_outcome: OnOutcome
    fruitless: int = 0  # tasks in a row that were given up without an example to blame


class RayExecutor:
    """Runs tasks on warm Ray actors, each doing one at a time."""

    def __init__(
        self,
        factory: WorkerFactory,
        config: ClusterConfig,
        left_out: Mapping[str, str] | None = None,
        quiet_s: float = QUIET_S,
    ) -> None:
        """`left_out` has the ids of nodes that no worker is started on; it may grow."""
        self._factory, self._config = factory, config
        self._left_out: Mapping[str, str] = {} if left_out is None else left_out
        self._modules = _own_modules(RayWorker, factory)
        self._code = source_digest(self._modules)
        self._connection = connect(config)
        self._nodes = self._usable_nodes()
        self._alive = alive_nodes()
        self._demand = worker_demand(config, self._nodes)
        self.workers, self.gpus = self._demand.workers, self._demand.gpus
        self._members: list[Member] = []
        self._draining = False
        self._failed_starts: list[str] = []  # their causes, since a worker last came up
        self._watchdog = Watchdog(quiet_s)
        self._followed = time.monotonic()

    def run(self, next_task: NextTask, on_outcome: OnOutcome) -> None:
        """Do tasks, asking for more as workers become free; an exception of `on_outcome` stops the run."""
        run = Run(Backlog(next_task, self.workers), on_outcome)
        self._watchdog.hear()
        try:
            while self._has_work(run.backlog):
                self._spawn(min(self.workers, len(run.backlog) + len(self._busy())))
                self._dispatch(run.backlog)
                self._collect(run)
        except BaseException:
            self._dismiss(self._members)  # nobody waits for what they are doing
            raise

    def drain(self) -> None:
        """Give out nothing more."""
        self._draining = True

    def wait_until_ready(self) -> None:
        """Start all workers and wait for them, so that their start slows nothing that follows."""
        run = Run(Backlog(in_order([]), 0), lambda outcome: None)
        self._spawn(self.workers)
        while any(member.hello is None for member in self._members):
            self._collect(run)
            self._spawn(self.workers)

    def close(self) -> None:
        """End the workers, and the cluster if this executor started it."""
        self._dismiss(self._members)
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _has_work(self, backlog: Backlog) -> bool:
        if self._draining:
            backlog.clear()
        else:
            backlog.read()
        return bool(backlog or self._busy())

    def _busy(self) -> list[Member]:
        return [member for member in self._members if member.job]

    def _at_work(self) -> list[AtWork]:
        now = time.monotonic()
        return [AtWork(member.name, member.job.task.id, now - member.since) for member in self._members if member.job]

    def _starting(self) -> int:
        return sum(member.hello is None for member in self._members)

    def _usable_nodes(self) -> list[Node]:
        return [node for node in self._connection.nodes() if node.id not in self._left_out]

    def _leave_nodes(self) -> None:
        """End the workers that are idle on nodes which were left out after they had started."""
        self._dismiss([each for each in self._members if not each.job and each.node in self._left_out])

    def _dismiss(self, members: Sequence[Member]) -> None:
        for member in list(members):
            self._members.remove(member)
            ray.kill(member.actor)

    def _spawn(self, wanted: int) -> None:
        """Start actors until there are `wanted`; no more of them once several in a row did not come up."""
        self._leave_nodes()
        while len(self._members) < wanted and len(self._failed_starts) < self._config.attempts:
            actor = self._actor_class().remote(self._factory, self._demand.threads, "cuda" if self.gpus else "cpu")
            self._members.append(Member(actor, actor.hello.remote(self._modules), self._alive))
        if not self._members:
            raise HeadlightError(f"no Ray worker comes up: {self._failed_starts[-1]}")

    def _actor_class(self) -> Any:
        threads = dict.fromkeys(
            ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(self._demand.threads)
        )
        elsewhere = {NODE_ID: f"!in({','.join(self._left_out)})"} if self._left_out else None
        return ray.remote(RayWorker).options(
            num_cpus=self._demand.cpus,
            num_gpus=self._demand.gpus,
            max_restarts=0,
            max_task_retries=0,
            label_selector=elsewhere,
            runtime_env={"env_vars": threads | self._connection.worker_environment()},
        )

    def _dispatch(self, backlog: Backlog) -> None:
        """Give idle workers jobs, first those they are warm for."""
        for prefer_warm in (True, False):
            for member in self._members:
                idle = member.hello and not member.job
                if idle and (job := backlog.take(member.warm if prefer_warm else None)):
                    member.assign(job)

    def _collect(self, run: Run) -> None:
        """Wait a moment for an answer, take it, and give up on workers that are lost or late."""
        awaited = {member.ref: member for member in self._members if member.ref is not None}
        answered, _ = ray.wait(list(awaited), num_returns=1, timeout=TICK_S)
        for ref in answered:
            self._watchdog.hear()
            self._receive(awaited[ref], run)
        self._lose_late(run)
        self._follow_cluster(run)
        self._watchdog.watch(self._at_work(), self._starting(), self._demand, self._nodes)

    def _receive(self, member: Member, run: Run) -> None:
        try:
            answer = ray.get(member.ref)
        except RayError as error:  # errors of the task itself come as an outcome
            self._lose(member, cause_of(error), run)
            return
        if isinstance(answer, Hello):
            self._welcome(member, answer, run)
        elif job := member.release():
            if outcome := job.answered(pickle.loads(answer)):
                run.on_outcome(outcome)
            else:
                run.backlog.put_back(job)

    def _welcome(self, member: Member, hello: Hello, run: Run) -> None:
        if hello.code == self._code:
            member.hello, member.ref = hello, None
            self._failed_starts.clear()
            logger.debug("worker %s is ready; log: %s", hello.name, hello.log)
        else:
            self._lose(member, f"{hello.name} has other code of Headlight than this process; install the same", run)

    def _lose(self, member: Member, cause: str, run: Run) -> None:
        """Give up on an actor; its job goes to another, or is given up too after `cluster.attempts`."""
        self._members.remove(member)
        ray.kill(member.actor)  # it may live on, cut off or late
        self._connection.keeps_logs = True
        logger.warning(
            "lost Ray worker %s: %s; log: %s", member.name, cause, member.hello.log if member.hello else "none"
        )
        if job := member.release():
            job.died(f"{member.name}: {cause}", time.monotonic() - member.since)
            self._pass_on(job, member, run)
        elif member.nodes <= alive_nodes():  # it was not its node that was lost
            self._failed_starts.append(cause)

    def _pass_on(self, job: Job, member: Member, run: Run) -> None:
        if job.goes_on(self._config.attempts, divide=run.fruitless < FRUITLESS):
            run.backlog.put_back(job)
            return
        outcome = job.given_up(member.name)
        run.fruitless = 0 if outcome.poison else run.fruitless + 1
        run.on_outcome(outcome)

    def _lose_late(self, run: Run) -> None:
        deadline = self._config.shard_deadline_s or math.inf
        for member in self._busy():
            if time.monotonic() - member.since > deadline:
                self._lose(member, f"its shard took longer than cluster.shard_deadline_s={deadline:g}", run)

    def _follow_cluster(self, run: Run) -> None:
        """As many workers as there is room for now, unless the configuration says how many."""
        if time.monotonic() - self._followed < FOLLOW_S:
            return
        self._followed = time.monotonic()
        self._nodes = self._usable_nodes()
        if (alive := alive_nodes()) != self._alive:
            self._alive = alive
            self._failed_starts.clear()
        fitting = max(1, room(self._nodes, self._demand.cpus, self._demand.gpus))
        if self._config.workers is None and fitting != self.workers:
            logger.info("the cluster now has room for %d workers, before for %d", fitting, self.workers)
            self.workers = run.backlog.workers = fitting
            self._dismiss([member for member in self._members[fitting:] if member.hello is None])


def alive_nodes() -> frozenset[str]:
    """Ids of the nodes that are alive."""
    return frozenset(node["NodeID"] for node in ray.nodes() if node["Alive"])


def _own_modules(*parts: object) -> list[str]:
    """Modules of this project in which a worker's parts are defined."""
    modules = {getattr(part, "func", part).__module__ for part in parts}  # `func`: of a functools.partial
    return sorted(module for module in modules if module.partition(".")[0] in PACKAGES)
