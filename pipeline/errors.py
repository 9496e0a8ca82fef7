"""Errors of the files a run works with. An outcome carries them as text, which begins with the name of the class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attribution.errors import HeadlightError

if TYPE_CHECKING:  # commands that compute nothing start without torch
    from pipeline.execution.task import Outcome


class StorageError(HeadlightError):
    """Nothing can be read from or written to where files go now; what is there stays, and the same command goes on."""


class ResultMissing(HeadlightError):
    """A result that was there is not any more, damaged or removed; computing it again helps."""


def reason_to_stop(outcome: Outcome) -> str | None:
    """Why no other task can fare better than this one; None where others can."""
    return (outcome.error or "").partition(": ")[2] if outcome.error_kind == StorageError.__name__ else None


def can_be_repeated(outcome: Outcome) -> bool:
    """Whether a task failed for its surroundings alone, and is worth doing again once these are better."""
    return outcome.error_kind in {StorageError.__name__, ResultMissing.__name__}
