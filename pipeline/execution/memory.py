"""How much memory a pass takes, how much there is, and how many rows of a microbatch therefore go in one pass."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.execution.resources import room, this_machine
from pipeline.execution.task import Part, resident_memory, set_back_peak

HEADROOM = 0.8  # of what is free
_CGROUP = (  # limit and use of version 2, and of version 1
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


@dataclass(frozen=True)
class Fits:
    """What decides how many rows go in one pass: `tokens` as configured, else `bytes_per_token` as measured."""

    length: int
    tokens: int | None = None
    bytes_per_token: float | None = None
    cpus: float | None = None  # of each worker, where several share a machine

    def rows(self, device: str) -> int:
        """Rows of a pass on this worker, a power of two."""
        tokens = self.tokens
        if tokens is None:
            tokens = tokens_that_fit(self.bytes_per_token or 1.0, free_bytes(device, self.cpus))
        return 1 << (max(1, tokens // self.length).bit_length() - 1)

    def parts(self, rows: int, device: str) -> tuple[Part, ...]:
        """A microbatch in passes that fit; one where all of it does."""
        size = self.rows(device)
        return tuple((start, min(start + size, rows)) for start in range(0, rows, size)) if size < rows else ()


def tokens_that_fit(bytes_per_token: float, free: int) -> int:
    """How many tokens a pass may have."""
    return int(free * HEADROOM / bytes_per_token)


def free_bytes(device: str, cpus: float | None = None) -> int:
    """What this worker may still take: of its GPU; or of the machine, or container, in equal shares of its workers.

    cpus: of each worker, None where one has the machine to itself.
    """
    if device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return int(free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated())
    sharing = 1 if cpus is None else max(1, room([this_machine()], cpus, 0))
    return min(_machine_free(), *_container_free()) // sharing


def _machine_free() -> int:
    """Memory that can be had without swapping."""
    path = Path("/proc/meminfo")
    if path.exists():
        fields = dict(line.split(":", 1) for line in path.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") - resident_memory()


def _container_free() -> list[int]:
    """What a memory limit of this container leaves; nothing where there is none."""
    found = []
    for limit, used in _CGROUP:
        if Path(limit).exists() and (text := Path(limit).read_text().strip()).isdecimal():
            found.append(max(0, int(text) - int(Path(used).read_text())))
    return [*found, 1 << 62]


def peak_of(device: str, work: Callable[[], object]) -> int:
    """The most bytes this process held while `work` ran: on its GPU, else resident in memory (`set_back_peak`)."""
    set_back_peak(device)
    work()
    if device == "cuda":
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated())
    status = Path("/proc/self/status")
    if not status.exists():
        return resident_memory()
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return int(fields["VmHWM"].split()[0]) * 1024
