"""Errors of the files a run works with. An outcome carries them as text, which begins with the name of the class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attribution.errors import HeadlightError

if TYPE_CHECKING:  # commands that compute nothing start without torch
    from pipeline.execution.task import Outcome


class StorageError(HeadlightError):
    """Nothing can be read from or written to where files go now; what is there stays, and the same command goes on."""


class Vanished(HeadlightError):
    """A result was there when it was planned with and is not, or not whole, on being read; it is computed again."""


def reason_to_stop(outcome: Outcome) -> str | None:
    """Why no other task can fare better than this one; None where others can."""
    return _message(outcome, StorageError)


def has_vanished(outcome: Outcome) -> bool:
    """Whether a task failed only for a result that has to be computed again first."""
    return _message(outcome, Vanished) is not None


def _message(outcome: Outcome, kind: type[Exception]) -> str | None:
    name, _, message = (outcome.error or "").partition(": ")
    return message if name == kind.__name__ else None
