"""From results in the store to the tables of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from pipeline.schemas import RUN_TABLES
from pipeline.store import Store


@dataclass
class Results:
    """Results by their keys; those that are not there, not made or damaged, are left out and noted."""

    store: Store
    absent: list[str] = field(default_factory=list)

    def tables(self, keys: Sequence[str], stage: str) -> dict[str, pa.Table]:
        """The tables that are there, by key."""
        found = self.store.get_many(keys, stage)
        self.absent += [key for key, table in found.items() if table is None]
        return {key: table for key, table in found.items() if table is not None}

    def by_method(
        self, name: str, keys: Sequence[tuple[str, Sequence[str]]], stage: str, items: Sequence[str]
    ) -> pa.Table:
        """A run table with the method in front: methods in the order of `keys`, items in that of `items`."""
        place = {item: i for i, item in enumerate(items)}
        parts = [
            _labelled(label, pa.concat_tables(tables.values()), place)
            for label, found in keys
            if (tables := self.tables(found, stage))
        ]
        schema = RUN_TABLES[name]
        return pa.concat_tables(parts).cast(schema) if parts else schema.empty_table()

    def joined(self, keys: Sequence[str], stage: str, items: Sequence[str]) -> list[pa.Table]:
        """The tables that are there as one, its items in the order of `items`; none where nothing is."""
        place = {item: i for i, item in enumerate(items)}
        tables = self.tables(keys, stage)
        return [_ordered(pa.concat_tables(tables.values()), place)] if tables else []


def _labelled(label: str, table: pa.Table, place: dict[str, int]) -> pa.Table:
    ordered = _ordered(table, place)
    return ordered.add_column(0, "method", pa.array([label] * ordered.num_rows, pa.string()))


def _ordered(table: pa.Table, place: dict[str, int]) -> pa.Table:
    places = pa.array([place[item] for item in table["item_id"].to_pylist()])
    return table.append_column("_place", places).sort_by("_place").drop_columns("_place")


def in_order_of(examples: pa.Table, table: pa.Table) -> pa.Table:
    """Rows of `table` in the order of the examples."""
    place = {item: i for i, item in enumerate(table["item_id"].to_pylist())}
    rows = pa.array([place[item] for item in examples["item_id"].to_pylist()], pa.int64())
    return table.take(rows).combine_chunks()
