"""A microbatch that does not go as a whole is computed in halves: for want of memory, or to find who is to blame."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
import torch

from attribution.errors import HeadlightError
from pipeline.errors import ResultMissing, StorageError
from pipeline.execution.task import MAX_POISON, Part, Poison, describe_poison

Tables = Mapping[str, pa.Table]  # key -> one row per example
_NO_MEMORY = ("can't allocate memory", "out of memory", "ALLOC_FAILED")  # of the processor, CUDA and its libraries


class PoisonError(HeadlightError):
    """Some examples of a microbatch fail on their own; `poison` names them, all the others can be computed."""

    poison: tuple[Poison, ...] = ()

    @classmethod
    def of(cls, poison: Sequence[Poison], total: int) -> PoisonError:
        """The error of a microbatch of `total` examples."""
        error = cls(describe_poison(poison, total))
        error.poison = tuple(poison)
        return error


class Computed(NamedTuple):
    """The results of a microbatch, and in how many parts they were computed."""

    tables: dict[str, pa.Table]
    parts: int


def compute_in_parts(compute: Callable[[slice], Tables], items: Sequence[str], parts: Sequence[Part] = ()) -> Computed:
    """What `compute` gives for the rows of these examples, joined; a part that fails is halved, down to single rows.

    Results of the parts are kept if memory is what was lacking. Where single examples fail and others do not,
    `PoisonError` names them. Any other failure is raised as it was: no example is to blame, or too many are.
    """
    waiting = [range(*part) for part in parts or ((0, len(items)),)][::-1]
    done: list[Tables] = []
    poison: list[Poison] = []
    first: Exception | None = None
    while waiting and len(poison) < MAX_POISON:
        rows = waiting.pop()
        try:
            done.append(compute(slice(rows.start, rows.stop)))
        except (ResultMissing, StorageError):
            raise  # whatever the rows
        except Exception as error:
            _empty(error)
            first = first or error
            if len(rows) == 1:
                poison.append((items[rows.start], f"{type(error).__name__}: {error}"))
            waiting += [half for half in (rows[len(rows) // 2 :], rows[: len(rows) // 2]) if 0 < len(half) < len(rows)]
    if 0 < len(poison) < MAX_POISON and (done or len(items) == 1):
        raise PoisonError.of(poison, len(items)) from first
    if first is not None and (poison or not lacks_memory(first)):
        raise first
    return Computed(_joined(done), len(done))


def lacks_memory(error: BaseException) -> bool:
    """Whether memory was lacking, of the processor or of a device."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _NO_MEMORY)
    )


def _empty(error: BaseException) -> None:
    """Let go of the tensors that the frames of an error hold, so that there is memory to go on with."""
    linked: BaseException | None = error
    while linked is not None:
        traceback.clear_frames(linked.__traceback__)
        linked = linked.__context__
    torch.cuda.empty_cache()  # does nothing where CUDA is not in use


def _joined(done: Sequence[Tables]) -> dict[str, pa.Table]:
    return {key: pa.concat_tables(part[key] for part in done) for key in done[0]}
