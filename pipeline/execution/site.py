"""Where a run computes: found out once, before any work, so that the driver and all workers agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from attribution.errors import InputError
from pipeline.execution.resources import Node, listed, room, worker_demand

if TYPE_CHECKING:
    from pipeline.config import ClusterConfig


@dataclass
class Site:
    """A machine or a cluster as it was found. Results carry its kind of device in their keys."""

    cluster: ClusterConfig  # as configured, but that its `device` is what the workers have: cpu or cuda
    problems: list[str] = field(default_factory=list)  # for which no work can be done there
    left_out: dict[str, str] = field(default_factory=dict)  # Ray's id of a node that gets no work -> its name
    notes: list[str] = field(default_factory=list)  # to be told to the user

    @classmethod
    def of(cls, config: ClusterConfig, nodes: Iterable[Node]) -> Self:
        """The site these nodes make."""
        return cls(replace(config, device="cuda" if worker_demand(config, nodes).gpus else "cpu"))

    def required(self) -> Self:
        """Itself; InputError with a line for each problem."""
        if self.problems:
            raise InputError("\n".join(f"conf error: {problem}" for problem in self.problems))
        return self

    def judge(self, found: Mapping[Node, Sequence[str]]) -> None:
        """Take note of what is wrong with each node; those that cannot do the work are left out if they are not needed.

        They are needed unless `cluster.workers` is a number, and so many workers fit on the others.
        """
        bad = {node: found[node] for node in sorted(found, key=lambda node: node.name) if found[node]}
        lines = [line for node in bad for line in bad[node]]
        good = [node for node in found if node not in bad]
        demand = worker_demand(self.cluster, good)
        fitting = room(good, demand.cpus, demand.gpus)
        if self.cluster.workers is not None and self.cluster.workers <= fitting:
            self.left_out |= {node.id: node.name for node in bad}
            self.notes += [f"left out: {line}" for line in lines]
        elif bad:
            self.problems += [*lines, *self._ways_out(bad, fitting)]

    def _ways_out(self, bad: Iterable[Node], fitting: int) -> list[str]:
        wanted = "null" if self.cluster.workers is None else self.cluster.workers
        names = listed([node.name for node in bad])
        text = f"cluster.workers={wanted} needs {names}; with cluster.workers={fitting} the run does without"
        return [text] if fitting else []
