"""What an executor is given and what it gives back; both executors run a task through the same `WorkerSlot`."""

from __future__ import annotations

import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import torch

from pipeline.execution.resources import hardware

if TYPE_CHECKING:
    from pipeline.execution.memory import Fits

MAX_POISON = 4  # if so many examples of one task fail, they are not what is wrong

Part = tuple[int, int]  # rows of a microbatch, from the first to before the second
Poison = tuple[str, str]  # item id of an example that cannot be computed, and why


@dataclass(frozen=True)
class Task:
    """One shard of one stage. Small and picklable: tensors and tables go through the store, never through a task."""

    id: str
    stage: str
    payload: dict[str, Any]
    affinity: str = ""  # what a worker keeps warm for it, usually the model's key
    weight: float = 1.0  # how much of the stage's total it is, for progress
    results: tuple[str, ...] = ()  # keys of what it puts into the store
    items: tuple[str, ...] = ()  # the examples it may be divided into
    parts: tuple[Part, ...] = ()  # these only, one after the other; nothing is kept of a part of the examples
    fits: Fits | None = None  # how many examples go in one pass

    @property
    def effort(self) -> float:
        """About how long it takes beside others of its stage: its weight, times the length of its texts."""
        shard = self.payload.get("shard")
        return self.weight * (1 if shard is None else shard.length)

    def is_probe(self) -> bool:
        """Whether it only finds out if a part of the examples can be computed."""
        return bool(self.parts) and sum(stop - start for start, stop in self.parts) < len(self.items)


@dataclass(frozen=True)
class Outcome:
    """What became of one task; errors are text, since exception objects do not survive every process boundary."""

    task_id: str
    ok: bool
    value: dict[str, Any]
    error: str | None
    traceback: str | None
    seconds: float
    worker: str
    attempts: int
    peak_bytes: int = 0  # of memory that the worker ever held, on its device
    resident_bytes: int = 0  # of the machine's memory that the worker ever held
    hardware: str = ""  # it was computed on
    poison: tuple[Poison, ...] = ()  # examples without which it can be done, planned anew by whoever planned it

    @property
    def error_kind(self) -> str:
        """Name of the exception's class; empty where there was none."""
        return (self.error or "").partition(":")[0]


def describe_poison(poison: Sequence[Poison], total: int) -> str:
    """The poison examples of a task in a line."""
    named = "; ".join(f"{item[:16]}: {error}" for item, error in poison)
    return f"{len(poison)} of {total} examples cannot be computed: {named}"


class Worker(Protocol):
    """Does tasks; keeps what is expensive (models) between them."""

    def process(self, task: Task) -> dict[str, Any]:
        """Do one task and return a small, picklable record. May run twice for one task: writes must be idempotent."""


WorkerFactory = Callable[[], Worker]
OnOutcome = Callable[[Outcome], None]
NextTask = Callable[[], Task | None]  # None: nothing for now; asked again after each outcome, which may bring new tasks


def in_order(tasks: Iterable[Task]) -> NextTask:
    """Tasks that are known beforehand, read one at a time."""
    source = iter(tasks)
    return lambda: next(source, None)


class Executor(Protocol):
    """Runs tasks on one or more workers; the workers stay warm between runs."""

    workers: int
    gpus: float  # that each worker takes

    def run(self, next_task: NextTask, on_outcome: OnOutcome) -> None:
        """Do tasks until there is none and none is under way; `on_outcome` is called in this process, once per task."""

    def drain(self) -> None:
        """Begin nothing more: `run` returns once what is under way is done. May be called from a signal handler."""

    def close(self) -> None:
        """Give the workers back."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass
class WorkerSlot:
    """A worker, built when the first task needs it, whose errors become outcomes."""

    factory: WorkerFactory
    name: str
    device: str = "cpu"  # it computes on

    @cached_property
    def worker(self) -> Worker:
        """Built once; a factory that fails is asked again by the next task."""
        return self.factory()

    def run(self, task: Task) -> Outcome:
        """Do one task; every `Exception`, the factory's too, becomes a failed outcome."""
        started = time.perf_counter()
        try:
            value, error, trace, poison = self.worker.process(task), None, None, ()
        except Exception as caught:
            value, error, trace = {}, f"{type(caught).__name__}: {caught}", traceback.format_exc()
            poison = getattr(caught, "poison", ())
        seconds = time.perf_counter() - started
        about = (peak_memory(self.device), resident_memory(), hardware(self.device), poison)
        return Outcome(task.id, error is None, value, error, trace, seconds, self.name, 1, *about)


def peak_memory(device: str) -> int:
    """The most bytes this process has held: on the GPU if that is its device, else in memory."""
    if device != "cuda":
        return resident_memory()
    return max(_set_back["cuda"], int(torch.cuda.max_memory_allocated()))


def resident_memory() -> int:
    """The most bytes of the machine's memory that this process has held."""
    return max(_set_back["cpu"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT)


def set_back_peak(device: str) -> None:
    """Let the device, or the system, count the most that is held from now on; what was before is remembered here.

    Outside Linux the peak of a process cannot be set back.
    """
    _set_back[device] = peak_memory(device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif _CLEAR_REFS.exists():
        _CLEAR_REFS.write_text("5")  # what Linux takes for it


_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
_CLEAR_REFS = Path("/proc/self/clear_refs")
_set_back = {"cpu": 0, "cuda": 0}  # peaks before they were set back
