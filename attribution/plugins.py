"""Whatever other packages register when an entry point of a group is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from attribution.errors import InputError


def load_group(
    group: str, kind: str, table: dict[str, Any], origins: dict[str, str], points: Iterable[EntryPoint] | None = None
) -> None:
    """Load every entry point of the group; an entry point names a module, or a function that is then called.

    `origins` gets the distribution and version that each new entry of `table` came with. Raises `InputError` for one
    that cannot be loaded, or that replaces an entry there already is; `kind` is what the message calls it.
    """
    for point in entry_points(group=group) if points is None else points:
        before = dict(table)
        try:
            loaded = point.load()
            if callable(loaded):
                loaded()
        except Exception as error:
            _restore(table, before)
            raise InputError(f"plug-in {_origin(point)}: {point.value} cannot be loaded: {error}") from error
        if replaced := [id for id, entry in before.items() if table.get(id) is not entry]:
            _restore(table, before)
            raise InputError(f"plug-in {_origin(point)}: there is a {kind} {replaced[0]} already; choose another id")
        origins.update({id: _origin(point) for id in table if id not in before})


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.name


def _restore(table: dict[str, Any], before: dict[str, Any]) -> None:
    table.clear()
    table.update(before)
