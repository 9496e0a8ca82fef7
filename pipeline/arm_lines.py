"""What arms reached, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

Row = Mapping[str, Any]

TITLES = {
    "in_place": "Patterns put into heads, without training",
    "students": "Students trained to choose sentences",
    "projected": "Projected attention beside trained students, all trained as long again",
    "classifiers": "Students trained to classify",
}


def arm_lines(arms: pa.Table) -> Iterator[str]:
    """A table for each study: of every metric the arms, and below each that is compared with others the differences."""
    for title, rows in studies(arms).items():
        yield f"{title} ({rows[0]['seeds']} seeds, ± over them; differences with 95 % intervals over examples)"
        yield from _aligned([cells for row in rows for cells in _cells(row)])


def studies(arms: pa.Table) -> dict[str, list[Row]]:
    """The rows of each study that there is, by its title."""
    found: dict[str, list[Row]] = {}
    for row in arms.to_pylist():
        found.setdefault(TITLES[row["study"]], []).append(row)
    return found


def _cells(row: Row) -> Iterator[tuple[str, str, str]]:
    """Metric, arm and value; or what an arm is compared with, and the difference."""
    if row["against"] is None:
        spread = "" if row["spread"] is None else f" ± {row['spread']:.4f}"
        yield row["metric"], row["arm"], f"{row['value']:.4f}{spread}"
    else:
        told = f"{row['value']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"
        yield "", f"  less {row['against']}", told


def _aligned(rows: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    """Columns of even width; a metric is named once."""
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    last = ""
    for metric, arm, value in rows:
        named = "" if metric == last else metric
        last = metric or last
        yield f"  {named:<{first}}  {arm:<{second}}  {value}"
