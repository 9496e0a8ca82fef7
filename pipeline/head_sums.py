"""What heads give in texts, added up, as tables and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from attribution.heads.divergence import HeadDistances
from attribution.heads.text_roles import RoleSums
from pipeline.counts import Shape
from pipeline.schemas import HEAD_SUMS

BY_HEAD, BY_ROLE = ("total", "squares"), ("even", "texts")


def role_table(sums: RoleSums) -> pa.Table:
    """Sums of roles as HEAD_SUMS."""
    roles, layers, heads = sums.total.shape
    flat: dict[str, list[Any]] = {
        "role": [role for role in sums.roles for _ in range(layers * heads)],
        "layer": [layer for _ in range(roles) for layer in range(layers) for _ in range(heads)],
        "head": list(range(heads)) * (roles * layers),
    }
    parts = [_part(name, getattr(sums, name).flatten(), flat) for name in BY_HEAD]
    parts += [_part(name, getattr(sums, name), {"role": list(sums.roles)}) for name in BY_ROLE]
    return pa.concat_tables(parts)


def role_sums(table: pa.Table, shape: Shape) -> RoleSums:
    """Sums of roles from their table, for a model of this shape (layers, heads)."""
    values = {name: _values(table, name) for name in (*BY_HEAD, *BY_ROLE)}
    roles = tuple(table.filter(pc.field("quantity") == "texts")["role"].to_pylist())
    by_head = {name: values[name].view(len(roles), *shape) for name in BY_HEAD}
    return RoleSums(roles, **by_head, even=values["even"], texts=values["texts"].long())


def distance_table(found: HeadDistances) -> pa.Table:
    """Distances as HEAD_SUMS, each pair once."""
    first, second = torch.tril_indices(len(found.total), len(found.total), -1)
    heads = found.shape[1]
    columns = {"layer": (first // heads).tolist(), "head": (first % heads).tolist(), "other": second.tolist()}
    return pa.concat_tables(
        [_part("distance", found.total[first, second], columns), _part("texts", torch.tensor([found.texts]), {})]
    )


def distances(table: pa.Table, shape: Shape) -> HeadDistances:
    """Distances from their table."""
    size = shape[0] * shape[1]
    total = torch.zeros(size, size, dtype=torch.float64)
    first, second = torch.tril_indices(size, size, -1)
    total[first, second] = _values(table, "distance")
    return HeadDistances(total + total.T, int(_values(table, "texts")), shape)


def _part(quantity: str, values: Tensor, columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    """Rows of one quantity; columns that say nothing of it are null."""
    given = {"quantity": [quantity] * len(values), "value": values.double().tolist(), **columns}
    arrays = [
        pa.array(given[field.name], field.type) if field.name in given else pa.nulls(len(values), field.type)
        for field in HEAD_SUMS
    ]
    return pa.table(arrays, schema=HEAD_SUMS)


def _values(table: pa.Table, quantity: str) -> Tensor:
    """In the order in which they were written."""
    return torch.tensor(table.filter(pc.field("quantity") == quantity)["value"].to_pylist(), dtype=torch.float64)
