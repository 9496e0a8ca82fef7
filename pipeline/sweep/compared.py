"""What a table of runs gains: mean ranks over its columns, and numbers that were expected beside ours."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from attribution.errors import InputError
from evaluation.statistics.ranks import critical_difference
from pipeline.sweep.table import Entry, Pivot

RANK = "mean rank"
VALUE, METRIC = "value", "metric"
NAMED = 3  # numbers without a counterpart that a note lists


def with_ranks(table: Pivot) -> Pivot:
    """The table with the mean rank of each row over the columns that have all rows (Demsar 2006)."""
    columns = list(table.higher)
    if len(columns) < 2 or len(table.rows) < 2:
        raise InputError(
            f"error: --ranks needs two rows and two columns whose metric has a direction; this table has "
            f"{len(table.rows)} and {len(columns)}."
        )
    blocks = np.array([[_upwards(table, row, column) for row in table.rows] for column in columns])
    found = critical_difference(blocks, table.rows, higher_is_better=True)
    ranks = {(row, RANK): Entry(rank) for row, rank in zip(found.methods, found.mean_ranks, strict=True)}
    left_out = f", {found.n_undefined} without all rows left out" if found.n_undefined else ""
    title = (
        f"{table.title}; mean ranks over {found.n} columns{left_out}: closer than {found.difference:.2f} is not told "
        f"apart (Nemenyi), P {found.p:.2g} that no row differs (Friedman)"
    )
    return replace(
        table,
        title=title,
        columns=[*table.columns, RANK],
        entries={**table.entries, **ranks},
        higher={**table.higher, RANK: False},
    )


def _upwards(table: Pivot, row: str, column: str) -> float:
    entry = table.entries.get((row, column))
    return math.nan if entry is None else entry.value if table.higher[column] else -entry.value


def with_expected(table: Pivot, path: Path, columns: str) -> Pivot:
    """The table with the numbers of a CSV file, whose columns are those that rows and columns go by, and `value`.

    Where it has a column `metric` that is neither, only lines of this metric count.
    """
    wanted = dict(_expected(path, table.corner, columns, table.metric))
    entries = {
        place: replace(entry, expected=wanted[place]) if place in wanted else entry
        for place, entry in table.entries.items()
    }
    lone = [" of ".join(place) for place in wanted if place not in table.entries]
    return replace(table, entries=entries, title=f"{table.title}; {len(wanted)} numbers of {path.name}{_note(lone)}")


def _note(lone: list[str]) -> str:
    if not lone:
        return ""
    more = ", ..." if len(lone) > NAMED else ""
    return f", {len(lone)} of them without ours ({', '.join(lone[:NAMED])}{more})"


def _expected(path: Path, rows: str, columns: str, metric: str | None) -> Iterator[tuple[tuple[str, str], float]]:
    for number, line in enumerate(_lines(path, (rows, columns, VALUE)), 2):
        if METRIC in (rows, columns) or line.get(METRIC) in (None, "", metric):
            yield (line[rows], line[columns]), _number(line[VALUE], path, number)


def _lines(path: Path, needed: tuple[str, ...]) -> list[Mapping[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            lines: list[Mapping[str, str]] = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"error: --expected {path} cannot be read: {error}") from None
    absent = [name for name in needed if name not in (reader.fieldnames or [])]
    if absent:
        raise InputError(f"error: --expected {path} has no column {absent[0]}; it needs {', '.join(needed)}.")
    return lines


def _number(text: str, path: Path, line: int) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        raise InputError(f"error: --expected {path}, line {line}: {text} is not a number.") from None
