"""What was counted in a search for heads, as tables and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from attribution.heads.arcs import ArcCounts
from attribution.heads.offsets import OffsetCounts
from attribution.heads.roles import DIRECTIONS
from pipeline.schemas import HEAD_COUNTS

Shape = tuple[int, int]  # layers, heads


def offset_table(counts: OffsetCounts) -> pa.Table:
    """Counts of offsets as HEAD_COUNTS; hits and neighbours of 0 are left out."""
    layer, head, column = counts.hits.nonzero(as_tuple=True)
    (neighbour,) = counts.neighbours.nonzero(as_tuple=True)
    hits, neighbours = counts.hits[layer, head, column], counts.neighbours[neighbour]
    return pa.concat_tables(
        [
            _part("hits", hits, layer=layer, head=head, offset=column - counts.reach),
            _part("neighbours", neighbours, offset=neighbour - counts.reach),
            _part("rows", [counts.rows]),
        ]
    )


def offset_counts(table: pa.Table, shape: Shape) -> OffsetCounts:
    """Counts of offsets from their table, for a model of this shape."""
    hits, neighbours = _only(table, "hits"), _only(table, "neighbours")
    reach = max((abs(offset) for offset in neighbours["offset"].to_pylist()), default=0)
    found = torch.zeros(*shape, 2 * reach + 1, dtype=torch.long)
    found[_column(hits, "layer"), _column(hits, "head"), _column(hits, "offset") + reach] = _column(hits, "count")
    have = torch.zeros(2 * reach + 1, dtype=torch.long)
    have[_column(neighbours, "offset") + reach] = _column(neighbours, "count")
    return OffsetCounts(found, have, _number(table, "rows"))


def arc_table(counts: ArcCounts) -> pa.Table:
    """Counts of arcs as HEAD_COUNTS; hits of 0 are left out."""
    relation, direction, layer, head = counts.hits.nonzero(as_tuple=True)
    names, ends = [counts.relations[i] for i in relation], [DIRECTIONS[i] for i in direction]
    offsets = [(name, offset, n) for name in counts.relations for offset, n in sorted(counts.offsets[name].items())]
    return pa.concat_tables(
        [
            _part(
                "hits",
                counts.hits[relation, direction, layer, head],
                name=names,
                direction=ends,
                layer=layer,
                head=head,
            ),
            _part("arcs", counts.arcs, name=counts.relations),
            _part("offsets", [n for *_, n in offsets], name=[o[0] for o in offsets], offset=[o[1] for o in offsets]),
            _part("relations", list(counts.names.values()), name=list(counts.names)),
            _part("skipped", list(counts.skipped.values()), name=list(counts.skipped)),
            _part("sentences", [counts.sentences]),
        ]
    )


def arc_counts(table: pa.Table, shape: Shape) -> ArcCounts:
    """Counts of arcs from their table, for a model of this shape."""
    arcs, hits = _only(table, "arcs"), _only(table, "hits")
    relations = tuple(arcs["name"].to_pylist())
    found = torch.zeros(len(relations), len(DIRECTIONS), *shape, dtype=torch.long)
    at = _places(hits, "name", relations), _places(hits, "direction", DIRECTIONS)
    found[*at, _column(hits, "layer"), _column(hits, "head")] = _column(hits, "count")
    offsets: dict[str, Counter[int]] = {relation: Counter() for relation in relations}
    for row in _only(table, "offsets").to_pylist():
        offsets[row["name"]][row["offset"]] = row["count"]
    names, skipped = _named(table, "relations"), _named(table, "skipped")
    return ArcCounts(relations, found, _column(arcs, "count"), offsets, names, _number(table, "sentences"), skipped)


def _part(quantity: str, count: Sequence[int] | Tensor, **columns: Sequence[Any] | Tensor) -> pa.Table:
    """Rows of one quantity; columns that say nothing of it are null."""
    given = {"quantity": [quantity] * len(count), "count": count, **columns}
    arrays = [
        pa.array(_listed(given[field.name]), field.type) if field.name in given else pa.nulls(len(count), field.type)
        for field in HEAD_COUNTS
    ]
    return pa.table(arrays, schema=HEAD_COUNTS)


def _listed(values: Sequence[Any] | Tensor) -> Sequence[Any]:
    return values.tolist() if isinstance(values, Tensor) else values


def _only(table: pa.Table, quantity: str) -> pa.Table:
    return table.filter(pc.equal(table["quantity"], quantity))


def _column(rows: pa.Table, name: str) -> Tensor:
    """Integers of a column [rows]."""
    return torch.from_numpy(rows[name].to_numpy().astype(np.int64))


def _places(rows: pa.Table, name: str, among: Iterable[str]) -> Tensor:
    """Where the values of a column stand in a list."""
    place = {value: index for index, value in enumerate(among)}
    return torch.tensor([place[value] for value in rows[name].to_pylist()], dtype=torch.long)


def _named(table: pa.Table, quantity: str) -> Counter[str]:
    rows = _only(table, quantity)
    return Counter(dict(zip(rows["name"].to_pylist(), rows["count"].to_pylist(), strict=True)))


def _number(table: pa.Table, quantity: str) -> int:
    number: int = _only(table, quantity)["count"][0].as_py()
    return number
