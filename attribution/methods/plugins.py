"""Methods of other packages: whatever registers itself when an entry point of `headlight.methods` is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

from attribution.errors import InputError
from attribution.methods.registry import METHODS, Method

GROUP = "headlight.methods"
ORIGINS: dict[str, str] = {}  # id of a method -> distribution and version it came with


def load_plugins(points: Iterable[EntryPoint] | None = None) -> None:
    """Load every entry point of the group; an entry point names a module, or a function that is then called.

    Raises `InputError` for one that cannot be loaded, or that replaces a method there already is.
    """
    for point in entry_points(group=GROUP) if points is None else points:
        before = dict(METHODS)
        try:
            loaded = point.load()
            if callable(loaded):
                loaded()
        except Exception as error:
            _restore(before)
            raise InputError(f"plug-in {_origin(point)}: {point.value} cannot be loaded: {error}") from error
        if replaced := [id for id, method in before.items() if METHODS.get(id) is not method]:
            _restore(before)
            raise InputError(f"plug-in {_origin(point)}: there is a method {replaced[0]} already; choose another id")
        ORIGINS.update({id: _origin(point) for id in METHODS if id not in before})


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.name


def _restore(methods: dict[str, Method]) -> None:
    METHODS.clear()
    METHODS.update(methods)
