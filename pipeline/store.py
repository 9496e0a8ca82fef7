"""Results under their keys: Parquet files written once, whole, the same bytes for the same table."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.backends import Facts, Held, backend_of
from pipeline.schemas import SCHEMA_VERSION

logger = logging.getLogger(__name__)

AT_ONCE = 16  # requests to the store that are under way at the same time


@dataclass(frozen=True)
class StoredFile:
    """A table in the store."""

    sha256: str
    rows: int
    name: str  # below the store's location


class Store:
    """Tables as `<stage>/<first two of key>/<key>.parquet` in a folder or an S3 bucket, each with its sha256 and rows.

    Any number of processes may read and write: the first writer wins. Planning looks at listings alone, so that it can
    ask for many; every table is checked against its hash when it is read, and one that is damaged is removed.
    """

    def __init__(self, location: str | os.PathLike[str]) -> None:
        self.backend = backend_of(location)
        self.location = self.backend.location

    def put(self, key: str, table: pa.Table, stage: str) -> StoredFile:
        """Write a table, unless its key already holds a valid one: the first writer wins."""
        data = parquet_bytes(table)
        stored = StoredFile(hashlib.sha256(data).hexdigest(), table.num_rows, name_of(key, stage))
        facts: Facts = {"rows": stored.rows, "schema_version": SCHEMA_VERSION, "sha256": stored.sha256}
        if self.backend.write_once(stored.name, data, facts):
            return stored
        held = self.find(key, stage)
        if held is None:  # damaged, or of another schema
            self.backend.delete(stored.name)
            self.backend.write_once(stored.name, data, facts)
            return stored
        if held.sha256 != stored.sha256:
            logger.warning("%s/%s was computed again with other bytes; the first are kept", self.location, held.name)
        return held

    def get(self, key: str, stage: str) -> pa.Table | None:
        """Read a table; None if there is none, or none that is whole."""
        held = self._verified(key, stage)
        return None if held is None else pq.read_table(pa.BufferReader(held.data))

    def get_many(self, keys: Sequence[str], stage: str) -> dict[str, pa.Table | None]:
        """Read many tables, some at a time: a bucket takes as long for each as a disk for a hundred."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return dict(zip(keys, pool.map(lambda key: self.get(key, stage), keys), strict=True))

    def find(self, key: str, stage: str) -> StoredFile | None:
        """What is stored under a key; None exactly when `get` gives None."""
        held = self._verified(key, stage)
        return (
            None
            if held is None
            else StoredFile(str(held.facts["sha256"]), int(held.facts["rows"]), name_of(key, stage))
        )

    def has(self, key: str, stage: str) -> bool:
        """Whether there is a table, by a look at the listing; `get` finds out whether it is whole."""
        return bool(self.held([key], stage))

    def held(self, keys: Iterable[str], stage: str) -> set[str]:
        """Those of many keys for which `has` is true, asked for by folder rather than one by one."""
        folders: dict[str, dict[str, str]] = {}
        for key in keys:
            folder, _, name = name_of(key, stage).rpartition("/")
            folders.setdefault(folder, {})[name] = key

        def look(folder: str) -> list[str]:
            return [folders[folder][name] for name in self.backend.present(folder, folders[folder])]

        if len(folders) == 1:
            return set(look(*folders))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return {key for found in pool.map(look, folders) for key in found}

    def remove(self, key: str, stage: str) -> None:
        """Remove a table, if there is one."""
        self.backend.delete(name_of(key, stage))

    def checked(self) -> Self:
        """This store; raises `InputError` where its location is not usable as it is configured."""
        self.backend.check()
        return self

    def _verified(self, key: str, stage: str) -> Held | None:
        name = name_of(key, stage)
        held = self.backend.read(name)
        if held is None:
            return None
        if held.facts.get("sha256") != hashlib.sha256(held.data).hexdigest():
            logger.warning("%s/%s is damaged and was removed; it will be computed again", self.location, name)
            self.backend.delete(name)
            return None
        return held if held.facts["schema_version"] == SCHEMA_VERSION else None


def name_of(key: str, stage: str) -> str:
    """The name of a table below the store's location."""
    return f"{stage}/{key[:2]}/{key}.parquet"


def parquet_bytes(table: pa.Table) -> bytes:
    """Parquet that depends on the table's columns, types and values alone, not on its chunks or metadata."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata(None).combine_chunks(),
        sink,
        compression="zstd",
        compression_level=3,
        use_compliant_nested_type=False,  # keeps the field names of lists, so that a table read back has its schema
    )
    return bytes(sink.getvalue())
