"""Where the store keeps its objects: a folder or an S3 bucket, with whole objects that are written once."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from importlib import import_module
from typing import NamedTuple, Protocol, cast

from attribution.errors import InputError

KINDS = {"": "folder", "s3": "s3"}  # scheme of paths.store -> module; loaded by name: no result depends on which it is
Facts = Mapping[str, str | int]  # what is known of an object: sha256, rows, schema_version


class Held(NamedTuple):
    """An object as it was read."""

    data: bytes
    facts: Facts  # empty where they are missing or unreadable


class Listed(NamedTuple):
    """An object as a listing shows it."""

    name: str
    size: int  # bytes
    modified: float  # seconds since 1970


class Backend(Protocol):
    """Objects by name, such as `evaluate/ab/ab12….parquet`. Raises `StorageError` where nothing can be had or kept."""

    location: str  # absolute, as `backend_of` takes it

    def check(self) -> None:
        """Raise `InputError` where the location is not usable as it is configured."""

    def write_once(self, name: str, data: bytes, facts: Facts) -> bool:
        """Write a whole object, or nothing where there is one of that name; says whether it was written."""

    def read(self, name: str) -> Held | None:
        """An object with its facts; None if there is none."""

    def present(self, folder: str, names: Collection[str]) -> set[str]:
        """Which of these names in `folder` are there, by a look at the listing: a damaged object counts as there."""

    def list(self, folder: str = "") -> Iterator[Listed]:
        """All objects below a folder, in no order."""

    def delete(self, *names: str) -> None:
        """Delete objects and their facts; no error where one is gone."""


def backend_of(location: str | os.PathLike[str]) -> Backend:
    """The backend of `paths.store`: a folder, or s3://bucket/prefix."""
    scheme, separator, _ = str(location).partition("://")
    kind = KINDS.get(scheme if separator else "")
    if kind is None:
        raise InputError(
            f"conf error: paths.store={location}: {scheme}:// is not taken; give a folder or s3://bucket/prefix."
        )
    return cast(Backend, import_module(f"{__name__}.{kind}").open_backend(str(location)))
