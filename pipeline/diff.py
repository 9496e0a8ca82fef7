"""What sets two runs apart: configuration, versions, model, data and results, down to single numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.runs import Run
from pipeline.schemas import RUN_TABLES

_KEYS = (
    "method",
    "curve",
    "role",
    "layer",
    "head",
    "metric",
    "against",
    "item_id",
)  # what a row of any table is known by
_SHOWN = 12  # lines of one kind that the text shows
_MODEL_FIELDS = ("name", "id", "revision", "fingerprint", "labels", "task", "architecture")
_DATA_FIELDS = ("name", "split", "fingerprint", "n")


@dataclass(frozen=True)
class Change:
    """A field that differs; None stands for absent."""

    key: str
    a: Any
    b: Any


@dataclass(frozen=True)
class TableChange:
    """How a table differs. `largest` is the largest absolute difference of a number, by method (or role)."""

    table: str
    rows_a: int
    rows_b: int
    only_a: int
    only_b: int
    changed: int
    methods: dict[str, int]  # method -> examples (or rows) that differ
    largest: dict[str, float]


@dataclass(frozen=True)
class Difference:
    """Everything two runs differ in; results are compared by bytes first."""

    a: str
    b: str
    config: list[Change]
    environment: list[Change]
    model: list[Change]
    data: list[Change]
    items_only_a: list[str]
    items_only_b: list[str]
    tables: list[TableChange]
    metrics: list[Change]
    same_bytes: list[str]

    @property
    def identical(self) -> bool:
        """Whether every table has the same bytes. Configuration and environment may differ all the same."""
        return len(self.same_bytes) == len(RUN_TABLES)

    def to_json(self) -> str:
        """All of it, for programs."""
        return json.dumps({"identical": self.identical, **asdict(self)}, indent=2, default=str)

    def to_text(self) -> str:
        """All of it, for people."""
        return "\n".join(_lines(self))


def diff_runs(a: Path, b: Path) -> Difference:
    """Compare two run folders."""
    runs = Run(a), Run(b)
    same = [table for table in RUN_TABLES if _digest(a, table) == _digest(b, table)]
    first, second = (set(run.table("examples", ["item_id"])["item_id"].to_pylist()) for run in runs)
    return Difference(
        a=str(a),
        b=str(b),
        config=_changes(*(_flat(run.config) for run in runs)),
        environment=_changes(*(_flat(run.manifest.get("environment") or {}) for run in runs)),
        model=_changes(*(_fields(run, "model", _MODEL_FIELDS) for run in runs)),
        data=_changes(*(_fields(run, "dataset", _DATA_FIELDS) for run in runs)),
        items_only_a=sorted(first - second),
        items_only_b=sorted(second - first),
        tables=[_table_change(table, *(run.table(table) for run in runs)) for table in RUN_TABLES if table not in same],
        metrics=_changes(*(_metric_values(run) for run in runs)),
        same_bytes=same,
    )


def _digest(folder: Path, table: str) -> str | None:
    path = folder / f"{table}.parquet"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


def _flat(tree: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return flat


def _fields(run: Run, part: str, fields: tuple[str, ...]) -> dict[str, Any]:
    entry = run.manifest.get(part) or {}
    return {field: entry.get(field) for field in fields}


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Change]:
    keys = dict.fromkeys([*a, *b])
    return [Change(key, a.get(key), b.get(key)) for key in keys if not _same(a.get(key), b.get(key))]


def _same(a: Any, b: Any) -> bool:
    return bool(a == b or (a != a and b != b))  # NaN equals NaN here


def _metric_values(run: Run) -> dict[str, float]:
    rows = run.table("metrics", ["method", "metric", "against", "value"]).to_pylist()
    return {f"{row['method']} {row['metric']}": row["value"] for row in rows if row["against"] is None}


def _table_change(name: str, a: pa.Table, b: pa.Table) -> TableChange:
    """Match rows by their keys, then compare the cells of rows both have."""
    rows_a, rows_b = _keyed(a), _keyed(b)
    methods: dict[str, int] = {}
    largest: dict[str, float] = {}
    for key in (key for key in rows_a if key in rows_b and not _same_row(rows_a[key], rows_b[key])):
        group = str(key[0]) if len(key) > 1 else ""
        methods[group] = methods.get(group, 0) + 1
        largest[group] = max(largest.get(group, 0.0), _largest(rows_a[key], rows_b[key]))
    only_a, only_b = len(rows_a.keys() - rows_b.keys()), len(rows_b.keys() - rows_a.keys())
    return TableChange(name, a.num_rows, b.num_rows, only_a, only_b, sum(methods.values()), methods, largest)


def _keyed(table: pa.Table) -> dict[tuple[Any, ...], dict[str, Any]]:
    keys = [key for key in _KEYS if key in table.column_names]
    return {tuple(row[key] for key in keys): _spread(row) for row in table.to_pylist()}


def _spread(row: dict[str, Any]) -> dict[str, Any]:
    """A row with a cell for each of its `facts`."""
    facts = {f"facts.{fact['name']}": fact["value"] for fact in row.pop("facts", None) or ()}
    return row | facts


def _same_row(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return a.keys() == b.keys() and all(_same(a[name], b[name]) or _largest_cell(a[name], b[name]) == 0 for name in a)


def _largest(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    return max((_largest_cell(a[name], b.get(name)) for name in a), default=0.0)


def _largest_cell(a: Any, b: Any) -> float:
    """Largest absolute difference of two cells: 0 where equal, infinite where they cannot be subtracted."""
    if _same(a, b):
        return 0.0
    if not (_numeric(a) and _numeric(b)) or np.shape(a) != np.shape(b):
        return float("inf")
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    both_undefined = np.isnan(first) & np.isnan(second)
    return float(np.nan_to_num(np.abs(np.where(both_undefined, 0.0, first - second)), nan=np.inf).max(initial=0.0))


def _numeric(cell: Any) -> bool:
    cells = cell if isinstance(cell, list) else [cell]
    return all(isinstance(value, int | float) for value in cells)


def _lines(difference: Difference) -> Iterator[str]:
    yield f"a  {difference.a}"
    yield f"b  {difference.b}"
    if difference.identical:
        yield f"results: identical, byte for byte ({len(difference.same_bytes)} tables)"
    else:
        yield f"results: {', '.join(change.table for change in difference.tables)} differ"
    for title in ("config", "environment", "model", "data"):
        yield from _section(title, [_change_line(change) for change in getattr(difference, title)])
    yield from _section("examples only in a", difference.items_only_a)
    yield from _section("examples only in b", difference.items_only_b)
    for table in difference.tables:
        yield from _section(f"{table.table} ({table.rows_a} and {table.rows_b} rows)", _table_lines(table))
    yield from _section("metrics", [_metric_line(change) for change in difference.metrics])


def _section(title: str, lines: list[str]) -> Iterator[str]:
    if not lines:
        return
    yield f"\n{title}"
    yield from (f"  {line}" for line in lines[:_SHOWN])
    if len(lines) > _SHOWN:
        yield f"  ... and {len(lines) - _SHOWN} more (--json shows all)"


def _change_line(change: Change) -> str:
    return f"{change.key}: {change.a} -> {change.b}"


def _metric_line(change: Change) -> str:
    if isinstance(change.a, float) and isinstance(change.b, float):
        return f"{change.key}: {change.a:.4g} -> {change.b:.4g} ({change.b - change.a:+.2g})"
    return _change_line(change)


def _table_lines(change: TableChange) -> list[str]:
    counts = {"only in a": change.only_a, "only in b": change.only_b, "in both but different": change.changed}
    lines = [f"{count} rows {where}" for where, count in counts.items() if count]
    lines += [
        f"{group or 'rows'}: {count} differ, by up to {change.largest[group]:.3g}"
        for group, count in change.methods.items()
    ]
    return lines or ["same rows in another order or encoding"]
