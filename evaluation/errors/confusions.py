"""Which classes are taken for which, and how often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attribution.errors import InputError
from evaluation.errors.few import proportion
from evaluation.statistics.intervals import Interval


@dataclass(frozen=True)
class Confusion:
    """Examples of class `gold` that are predicted to be of class `predicted`.

    rows: their places among the examples. share: of all examples of class `gold`.
    """

    gold: int
    predicted: int
    rows: tuple[int, ...]
    share: Interval

    @property
    def n(self) -> int:
        """How many errors."""
        return len(self.rows)


def confusions(labels: Sequence[int | None], predicted: Sequence[int]) -> list[Confusion]:
    """The pairs of classes that are confused, most errors first; an example without a label is no error."""
    if len(labels) != len(predicted):
        raise InputError(f"labels: {len(labels)} labels for {len(predicted)} predictions")
    found: dict[tuple[int, int], list[int]] = {}
    sizes: dict[int, int] = {}
    for row, (gold, guess) in enumerate(zip(labels, predicted, strict=True)):
        if gold is None:
            continue
        sizes[gold] = sizes.get(gold, 0) + 1
        if gold != guess:
            found.setdefault((gold, guess), []).append(row)
    pairs = [
        Confusion(gold, guess, tuple(rows), proportion(len(rows), sizes[gold])) for (gold, guess), rows in found.items()
    ]
    return sorted(pairs, key=lambda pair: (-pair.n, pair.gold, pair.predicted))
