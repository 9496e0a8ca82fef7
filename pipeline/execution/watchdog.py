"""Says why nothing moves: who works on what, who waits for what, and which node has how much of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import ray
from ray._private.state import available_resources_per_node

from pipeline.execution.resources import Demand, Node, listed, room

logger = logging.getLogger(__name__)

LONG = 5  # a training takes minutes: where all are at work, so many times as much silence is nothing unusual


class AtWork(NamedTuple):
    """A worker under way."""

    worker: str
    task: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.worker} for {self.seconds:.0f} s on {self.task[:16]}"


@dataclass
class Watchdog:
    """Warns after every `quiet_s` in which no worker answered, `LONG` times that where none waits for anything."""

    quiet_s: float
    heard: float = field(default_factory=time.monotonic)

    def hear(self) -> None:
        """A worker answered."""
        self.heard = time.monotonic()

    def watch(self, at_work: Sequence[AtWork], starting: int, demand: Demand, nodes: Sequence[Node]) -> None:
        """Log what is waited for, if it has been quiet for long."""
        patience = self.quiet_s * (LONG if at_work and not starting else 1)
        if time.monotonic() - self.heard < patience:
            return
        self.hear()
        reasons = [f"at work: {listed([str(each) for each in at_work]) or 'nobody'}"]
        if starting:
            reasons.append(f"{starting} workers wait for {demand} each: {why_waiting(demand, nodes, free_nodes())}")
        logger.warning("no progress for %g s; %s", patience, "; ".join(reasons))


def free_nodes() -> list[Node]:
    """What nobody has taken of each node; a moment old."""
    by_node = available_resources_per_node()
    return [
        Node(node["NodeManagerAddress"], left.get("CPU", 0.0), left.get("GPU", 0.0))
        for node in ray.nodes()
        if (left := by_node.get(node["NodeID"])) is not None
    ]


def why_waiting(demand: Demand, nodes: Sequence[Node], left: Sequence[Node]) -> str:
    """Why workers do not start on nodes of which so much is left."""
    if not room(nodes, demand.cpus, demand.gpus):
        reason = "no node has that much; add one, or lower cluster.cpus_per_worker or cluster.gpus_per_worker"
    elif not room(left, demand.cpus, demand.gpus):
        reason = "all of it is taken"
    else:
        reason = "there is room, so they are about to start"
    return f"{reason} ({listed(_left(left)) or 'nobody'})"


def _left(nodes: Sequence[Node]) -> list[str]:
    return [f"{node.name} has {node.cpus:g} CPU, {node.gpus:g} GPU left" for node in nodes]
