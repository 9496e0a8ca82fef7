"""Labels that are likely to be wrong: the model disagrees, and is as sure as it is of examples that have its class.

Confident learning (Northcutt, Jiang & Chuang 2021, JAIR 70, arXiv 1911.00068, eq. 1 and 2), with the probabilities that
the model gives. They have to be of examples it was not trained on: what it has learnt by heart it does not doubt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attribution.errors import InputError

Floats = NDArray[np.float64]
NO_LABEL = -1


class LabelDoubt(NamedTuple):
    """An example whose label is likely to be wrong: `row` among the examples, its label, and the class it seems to be.

    margin: p(likely) - p(label), by which they are ranked.
    """

    row: int
    label: int
    likely: int
    margin: float


def class_thresholds(probabilities: ArrayLike, labels: Sequence[int | None]) -> Floats:
    """[C] mean probability of a class over the examples that have it; infinite where none has."""
    given, known = _given(probabilities, labels)
    sums, counts = np.zeros(given.shape[1]), np.bincount(known[known >= 0], minlength=given.shape[1])
    np.add.at(sums, known[known >= 0], given[known >= 0, known[known >= 0]])
    return np.divide(sums, counts, out=np.full_like(sums, np.inf), where=counts > 0)


def likely_label_errors(probabilities: ArrayLike, labels: Sequence[int | None]) -> list[LabelDoubt]:
    """The examples that the model is confident are of another class than their label says, surest first.

    Those for which it predicts their label are left out, whatever the thresholds.
    """
    given, known = _given(probabilities, labels)
    likely = _likely(given, class_thresholds(probabilities, labels))
    rows = np.flatnonzero((known >= 0) & (likely >= 0) & (likely != known) & (given.argmax(1) != known))
    doubts = [
        LabelDoubt(
            row, known[row].item(), likely[row].item(), (given[row, likely[row]] - given[row, known[row]]).item()
        )
        for row in rows.tolist()
    ]
    return sorted(doubts, key=lambda doubt: (-doubt.margin, doubt.row))


def _likely(given: Floats, thresholds: Floats) -> NDArray[np.int64]:
    """[n] the most probable of the classes that reach their threshold; -1 where none does."""
    reached = given >= thresholds
    best: NDArray[np.int64] = np.where(reached, given, -np.inf).argmax(1)
    return np.where(reached.any(1), best, NO_LABEL)


def _given(probabilities: ArrayLike, labels: Sequence[int | None]) -> tuple[Floats, NDArray[np.int64]]:
    given = np.asarray(probabilities, dtype=np.float64)
    known = np.array([NO_LABEL if label is None else label for label in labels], dtype=np.int64)
    if given.ndim != 2 or len(given) != len(known):
        raise InputError(f"probabilities: one row of classes for each of {len(known)} labels is needed")
    if bool((known >= given.shape[1]).any()):
        raise InputError(f"labels: {known.max()} is no class of a model of {given.shape[1]} classes")
    return given, known
