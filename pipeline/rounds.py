"""The order in which the texts of a run are explained where it need not come to all of them, and its rounds."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pyarrow as pa

from evaluation.statistics import drawn_order, look_sizes
from evaluation.statistics.sequential import FIRST_LOOK
from pipeline.keys import digest

EARLY = (8, 4, 2)  # parts of the first look after which a budget may be spent, though nothing is judged yet


@dataclass(frozen=True)
class Draw:
    """The texts of a run in the order in which they are taken, and how many there are after each round."""

    rows: list[list[int]]  # of each text, of the examples
    sizes: list[int]
    key: str  # of the order

    @classmethod
    def of(cls, examples: pa.Table, seed: int) -> Draw:
        """All windows of a text come with it. The budget has no part in this, so that every budget shares results."""
        texts: dict[str, list[int]] = {}
        for place, row in enumerate(examples.select(["item_id", "text_id"]).to_pylist()):
            texts.setdefault(row["text_id"] or row["item_id"], []).append(place)
        order = drawn_order(texts, seed)
        return cls([texts[text] for text in order], round_sizes(len(order)), digest(order))

    @property
    def order(self) -> list[int]:
        """All rows, in the order in which they are taken."""
        return [row for text in self.rows for row in text]

    def rounds(self) -> list[list[int]]:
        """The rows that each round adds, in the order of the data."""
        return [self._rows(*ends) for ends in pairwise([0, *self.sizes])]

    def reached(self, rounds: int) -> list[int]:
        """The rows of so many rounds."""
        return self._rows(0, self.sizes[rounds - 1])

    def _rows(self, start: int, end: int) -> list[int]:
        return sorted(row for text in self.rows[start:end] for row in text)


def round_sizes(n: int) -> list[int]:
    """How many of n examples there are after each round."""
    early = [size for part in EARLY if 0 < (size := FIRST_LOOK // part) < n]
    return [*early, *look_sizes(n, first=min(FIRST_LOOK, n))]
