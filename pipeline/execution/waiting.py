"""Waiting for a cluster: for its head to answer, and for as many nodes as the workers need."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.config import ClusterConfig
from pipeline.execution.progress import Progress, clock_time
from pipeline.execution.resources import Demand, Node, room, worker_demand

if TYPE_CHECKING:
    from pipeline.execution.ray_cluster import Connection

LOOK_EVERY_S = 1.0
TELL_EVERY_S = 10.0


class Patience:
    """So many seconds in all, counted from when it is made."""

    def __init__(self, seconds: float, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._progress = clock, progress
        self._deadline = clock() + seconds
        self._told, self._due = "", 0.0

    def until_reachable(self, config: ClusterConfig) -> None:
        """Wait for the head node. Raises InputError once there is no time left."""
        from pipeline.execution.ray_cluster import address_setting, cluster_address, refusal

        address, setting = str(cluster_address(config)), address_setting(config)
        while (error := refusal(address, setting)) is not None:
            if not self._goes_on(f"{setting} to answer"):
                raise error

    def until_room(self, config: ClusterConfig, connection: Connection) -> list[Node]:
        """Wait until the workers fit; returns the nodes there are then, or when time is up."""
        nodes = connection.nodes()
        if not _lacking(config, nodes):
            return nodes
        with _asked_for(worker_demand(config, nodes)):
            while (lacking := _lacking(config, nodes)) and self._goes_on(lacking):
                nodes = connection.nodes()
        return nodes

    def _goes_on(self, what: str) -> bool:
        """Wait a moment and say for what, unless time is up."""
        left = self._deadline - self._clock()
        if left <= 0:
            return False
        if what != self._told or self._clock() >= self._due:
            self._told, self._due = what, self._clock() + TELL_EVERY_S
            self._progress.message(f"waiting for {what}, {clock_time(left)} left")
        time.sleep(min(LOOK_EVERY_S, left))
        return True


def _lacking(config: ClusterConfig, nodes: list[Node]) -> str:
    """What is still missing, `3 of 8 GPUs`; empty where all workers fit."""
    demand = worker_demand(config, nodes)
    missing = demand.workers - room(nodes, demand.cpus, demand.gpus)
    if missing <= 0:
        return ""
    if demand.gpus == 1:
        return f"{missing} of {demand.workers} GPUs"
    return f"room for {missing} of {demand.workers} workers ({demand} each)"


@contextmanager
def _asked_for(demand: Demand) -> Iterator[None]:
    """Have an autoscaler, if there is one, bring what is missing; a cluster without one takes no notice."""
    from ray.autoscaler.sdk import request_resources

    each = {"CPU": demand.cpus, "GPU": demand.gpus}
    request_resources(bundles=[{name: amount for name, amount in each.items() if amount}] * demand.workers)
    try:
        yield
    finally:
        request_resources(bundles=[])  # it stands until the next one
