"""What workers need, what a machine or a cluster has, and how many workers that makes."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from pipeline.config import ClusterConfig, Config


class Node(NamedTuple):
    """One machine."""

    name: str
    cpus: float
    gpus: float
    id: str = ""  # Ray's


@dataclass(frozen=True)
class Needs:
    """What every node has to see under the same path."""

    folders: Mapping[str, str] = field(default_factory=dict)  # a setting, as it is written -> the folder it names
    store: str | None = None

    @classmethod
    def of(cls, configs: Sequence[Config]) -> Needs:
        """What configurations alone tell; the folder of another model is known once it is there."""
        models = {config.model.path for config in configs if config.model.source == "local" and config.model.path}
        store = configs[0].paths.store
        folders = {f"model.path={model}": str(Path(model).resolve()) for model in sorted(models)}
        return cls(folders, store if "://" in store else str(Path(store).absolute()))


@dataclass(frozen=True)
class Demand:
    """How many workers are wanted and what each of them takes."""

    workers: int
    cpus: float
    gpus: float
    threads: int

    def __str__(self) -> str:
        gpus = f" and {self.gpus:g} GPU" if self.gpus else ""
        return f"{self.cpus:g} CPU{gpus}"


def worker_threads(config: ClusterConfig) -> int:
    """Torch threads of a worker, the same for every executor: `threads`, else the CPUs a worker is given."""
    return config.threads or max(1, int(config.cpus_per_worker))


def worker_demand(config: ClusterConfig, nodes: Iterable[Node]) -> Demand:
    """One worker per GPU where there are any, else per `cpus_per_worker`, unless the configuration says how many."""
    nodes = list(nodes)
    gpus = config.gpus_per_worker
    if not gpus and (config.device == "cuda" or (config.device == "auto" and any(node.gpus >= 1 for node in nodes))):
        gpus = 1.0
    workers = config.workers or max(1, room(nodes, config.cpus_per_worker, gpus))
    return Demand(workers, config.cpus_per_worker, gpus, worker_threads(config))


def room(nodes: Iterable[Node], cpus: float, gpus: float) -> int:
    """How many workers fit, none of them spread over two nodes, nor over two GPUs if it takes a part of one."""
    return sum(
        min(_fits(node.cpus, cpus), _gpu_fits(node.gpus, gpus)) if gpus else _fits(node.cpus, cpus) for node in nodes
    )


def _fits(available: float, each: float) -> int:
    return math.floor(available / each + 1e-9)


def _gpu_fits(available: float, each: float) -> int:
    return int(available) * _fits(1, each) if each < 1 else _fits(available, each)


SHOWN = 8  # names that a message lists


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def this_machine() -> Node:
    """The CPUs this process may use, and the GPUs that torch sees."""
    return Node("this machine", float(_usable_cpus()), float(torch.cuda.device_count()))


def hardware(device: str) -> str:
    """What of this machine shows in the digits of a result."""
    if device == "cuda":
        return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else "no CUDA device"
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
