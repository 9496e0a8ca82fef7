"""What is done to a run: each fault is real, and a node that was lost comes back in the background."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from driver import DriverProcess
from network_cluster import NetworkCluster

CUT_FOR_S = 15.0


@dataclass
class Disturber:
    """Does faults to a cluster and to the driver on it; one node is away at a time."""

    cluster: NetworkCluster
    driver: DriverProcess
    random: random.Random
    _returning: list[threading.Thread] = field(default_factory=list)
    _gone: set[int] = field(default_factory=set)  # workers that have been killed, or have lost their driver

    def do(self, fault: str) -> str | None:
        """Do a fault; returns what was hit, None if there is nothing of the kind at the moment."""
        return FAULTS[fault](self)

    def wait_until_whole(self) -> None:
        """Wait until the nodes that were lost are back, and their workers have started if the driver has not ended."""
        while self._returning:
            self._returning.pop().join()
        while not self.driver.is_done() and len(self._workers()) < self.cluster.size:
            time.sleep(0.2)

    def kill_worker(self) -> str | None:
        """SIGKILL to one worker process."""
        if not (workers := self._workers()):
            return None
        node, pid = self.random.choice(workers)
        self._gone.add(pid)
        os.kill(pid, signal.SIGKILL)
        return f"worker {pid} of node {node}"

    def kill_node(self) -> str:
        """SIGKILL to all processes of a worker node."""
        node = self._node()
        self.cluster.kill(node)
        self._bring_back(lambda: self.cluster.start(node))
        return f"node {node}"

    def cut_node(self) -> str:
        """Take a worker node's link away for a while; Ray gives such a node up, so a fresh one takes its place."""
        node = self._node()
        self.cluster.cut(node)

        def replace() -> None:
            time.sleep(CUT_FOR_S)
            self.cluster.heal(node)
            self.cluster.kill(node)
            self.cluster.start(node)

        self._bring_back(replace)
        return f"link of node {node}"

    def kill_driver(self) -> str:
        """SIGKILL to the driver; the same command is started at once."""
        self._gone.update(pid for _, pid in self._workers())
        pid = self.driver.kill()
        self.driver.start()
        return f"driver {pid}"

    def _node(self) -> int:
        return self.random.randint(1, self.cluster.size)

    def _bring_back(self, action: Callable[[], None]) -> None:
        self._returning.append(threading.Thread(target=action))
        self._returning[-1].start()

    def _workers(self) -> list[tuple[int, int]]:
        """(node, pid) of the workers that have started."""
        return [
            (node, pid)
            for node in range(1, self.cluster.size + 1)
            for pid in self.cluster.pids(node)
            if pid not in self._gone and _is_worker(_title(pid))
        ]


FAULTS: dict[str, Callable[[Disturber], str | None]] = {
    "worker": Disturber.kill_worker,
    "node": Disturber.kill_node,
    "partition": Disturber.cut_node,
    "driver": Disturber.kill_driver,
}
LONGEST_GAP_S = {"worker": 10.0, "node": 10.0, "partition": 20.0, "driver": 30.0}


def _is_worker(title: str) -> bool:
    """Ray names a process by what it does, and while it starts by the constructor."""
    return title.startswith("ray::RayWorker") and not title.startswith("ray::RayWorker.__init__")


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:  # it has just ended
        return ""
