"""Keys of results: a digest of everything a result depends on, and of nothing else."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from functools import cache
from importlib import metadata
from pathlib import Path, PurePath
from typing import Any

PACKAGES = ("attribution", "evaluation", "pipeline")
LIBRARIES = {
    "torch": "torch",
    "transformers": "transformers",
    "numpy": "numpy",
    "pyarrow": "pyarrow",
    "headlight": "headlight-xai",
}


def digest(obj: Any) -> str:
    """SHA-256 of `canonical_json(obj)`, in hex."""
    return hashlib.sha256(canonical_json(obj).encode()).hexdigest()


def canonical_json(obj: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, ASCII, floats by their shortest exact form.

    Takes None, bool, int, float, str, enums (by value), paths, numpy and torch scalars, dataclasses, mappings and
    sequences. Raises TypeError for anything else (sets and bytes too) and ValueError for NaN and infinities.
    """
    return json.dumps(_plain(obj), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(obj: Any) -> Any:
    if type(obj) in _LEAVES:  # nearly everything; not what merely inherits from them
        return obj
    for matches, convert in _CONVERSIONS:
        if matches(obj):
            return convert(obj)
    raise TypeError(f"no canonical form for a {type(obj).__name__}: {obj!r}")


def _is_dataclass(obj: Any) -> bool:
    return dataclasses.is_dataclass(obj) and not isinstance(obj, type)


def _is_scalar(obj: Any) -> bool:
    """Whether it is a number of numpy or torch; asked without importing either."""
    return hasattr(obj, "item") and getattr(obj, "ndim", None) == 0


def _plain_mapping(obj: Mapping[Any, Any]) -> dict[str, Any]:
    keys = [_plain_key(key) for key in obj]
    if len(set(keys)) < len(keys):
        raise ValueError(f"keys that differ only in type: {list(obj)}")
    return dict(zip(keys, map(_plain, obj.values()), strict=True))


def _plain_key(key: Any) -> str:
    key = _plain(key)
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise TypeError(f"no canonical form for the key {key!r}: it is neither text nor an integer")
    return str(key)


_LEAVES = frozenset((str, int, float, bool, type(None)))

# The first that matches counts: an enum may be a str too, and numpy's float64 is a float.
_CONVERSIONS: tuple[tuple[Callable[[Any], bool], Callable[[Any], Any]], ...] = (
    (lambda obj: isinstance(obj, Enum), lambda obj: _plain(obj.value)),
    (_is_scalar, lambda obj: _plain(obj.item())),
    (lambda obj: obj is None or isinstance(obj, bool | int | float | str), lambda obj: obj),
    (lambda obj: isinstance(obj, PurePath), lambda obj: obj.as_posix()),
    (_is_dataclass, lambda obj: {field.name: _plain(getattr(obj, field.name)) for field in dataclasses.fields(obj)}),
    (lambda obj: isinstance(obj, Mapping), _plain_mapping),
    (
        lambda obj: isinstance(obj, Sequence) and not isinstance(obj, bytes | bytearray | memoryview),
        lambda obj: [_plain(item) for item in obj],
    ),
)


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Versions of the libraries that results depend on."""
    return {name: _version(distribution) for name, distribution in LIBRARIES.items()}


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "checkout"  # run from a source tree that was never installed


def source_digest(module_names: Iterable[str], packages: Sequence[str] = PACKAGES) -> str:
    """Digest of the code of these modules and of everything of `packages` they import, directly or not.

    Imports are read from the source: those inside functions count, those under `TYPE_CHECKING` and those by a computed
    name do not, and a package's `__init__` counts only where something is imported from it by name. Comments,
    formatting and docstrings do not matter. Raises ModuleNotFoundError for a module without a source file.
    """
    waiting = list(module_names)
    if missing := [name for name in waiting if _source_file(name) is None]:
        raise ModuleNotFoundError(f"no source file for {', '.join(missing)}")
    sources: dict[str, str] = {}
    while waiting:
        name = waiting.pop()
        if name not in sources and (path := _source_file(name)) is not None:
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            sources[name], imported = _parsed(path.read_bytes(), package)
            waiting += [other for other in imported if other.partition(".")[0] in packages]
    return digest(sources)


def _source_file(name: str) -> Path | None:
    """File of a module, found without importing its parents (importing `attribution` imports torch)."""
    package, *rest = name.split(".")
    for root in _package_folders(package):
        base = Path(root, *rest)
        for path in (base / "__init__.py", base.with_suffix(".py")):
            if path.is_file():
                return path
    return None


def package_folders() -> list[str]:
    """Folders of this project's packages."""
    return [folder for package in PACKAGES for folder in _package_folders(package)]


@cache
def _package_folders(package: str) -> tuple[str, ...]:
    spec = importlib.util.find_spec(package)
    return tuple(spec.submodule_search_locations or ()) if spec else ()


@cache
def _parsed(source: bytes, package: str) -> tuple[str, tuple[str, ...]]:
    """Digest of a module's code, and the modules it imports."""
    tree = ast.parse(source)
    imported = tuple(sorted({other for node in _runtime_nodes(tree) for other in _imports(node, package)}))
    _drop_docstrings(tree)
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imported


def _runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING:`."""
    yield node
    if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
        children: Iterable[ast.AST] = node.orelse
    else:
        children = ast.iter_child_nodes(node)
    for child in children:
        yield from _runtime_nodes(child)


def _imports(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        origin = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
        for alias in node.names:
            submodule = f"{origin}.{alias.name}"
            yield submodule if _source_file(submodule) else origin


def _drop_docstrings(tree: ast.AST) -> None:
    for node in ast.walk(tree):
        match node:
            case ast.Module() | ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                if ast.get_docstring(node, clean=False) is not None:
                    del node.body[0]
