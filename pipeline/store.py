"""Results on disk under their keys: Parquet files written once, atomically, the same bytes for the same table."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from attribution.errors import HeadlightError
from pipeline.schemas import SCHEMA_VERSION

logger = logging.getLogger(__name__)


class ResultMissing(HeadlightError):
    """A result that was there is not any more, damaged or removed; computing it again helps."""


@dataclass(frozen=True)
class StoredFile:
    """A table in the store."""

    sha256: str
    rows: int
    path: Path


class Store:
    """Tables under `root/<stage>/<first two of key>/<key>.parquet`, each beside a JSON file with its sha256 and rows.

    The JSON file is written first, so the table's appearance is what commits it: a reader never sees a table that is
    still on its way, and whatever a crash leaves behind counts as absent. Any number of processes may read and write.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)

    def path(self, key: str, stage: str) -> Path:
        """Where the table of a key is, or would be."""
        return self.root / stage / key[:2] / f"{key}.parquet"

    def put(self, key: str, table: pa.Table, stage: str) -> StoredFile:
        """Write a table, unless its key already holds a valid one: the first writer wins."""
        held = self.find(key, stage)
        data = parquet_bytes(table)
        sha256 = hashlib.sha256(data).hexdigest()
        if held is not None:
            if held.sha256 != sha256:
                logger.warning("%s was computed again with other bytes; the first are kept", held.path)
            return held
        stored = StoredFile(sha256, table.num_rows, self.path(key, stage))
        sidecar = {"rows": stored.rows, "schema_version": SCHEMA_VERSION, "sha256": sha256}
        write_atomically(_sidecar_path(stored.path), json.dumps(sidecar, sort_keys=True).encode() + b"\n")
        write_atomically(stored.path, data)
        return stored

    def get(self, key: str, stage: str) -> pa.Table | None:
        """Read a table; None if there is none, or none that is whole."""
        verified = self._verified(key, stage)
        return None if verified is None else pq.read_table(pa.BufferReader(verified[1]))

    def find(self, key: str, stage: str) -> StoredFile | None:
        """What is stored under a key, without reading the table; None exactly when `get` gives None."""
        verified = self._verified(key, stage)
        return None if verified is None else verified[0]

    def has(self, key: str, stage: str) -> bool:
        """Whether `get` would give a table."""
        return self.find(key, stage) is not None

    def _verified(self, key: str, stage: str) -> tuple[StoredFile, bytes] | None:
        path = self.path(key, stage)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        sidecar = _read_sidecar(path)
        if sidecar.get("sha256") != hashlib.sha256(data).hexdigest():
            logger.warning("%s is damaged or incomplete and was removed; it will be computed again", path)
            path.unlink(missing_ok=True)
            return None
        if sidecar["schema_version"] != SCHEMA_VERSION:
            return None
        return StoredFile(sidecar["sha256"], sidecar["rows"], path), data


def write_table(path: str | os.PathLike[str], table: pa.Table) -> str:
    """Write a table of a run folder, atomically and with the store's bytes; returns its sha256."""
    data = parquet_bytes(table)
    write_atomically(Path(path), data)
    return hashlib.sha256(data).hexdigest()


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


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it appears whole or not at all, whatever happens to the process.

    Not synced to the disk: that takes ten times as long as all the rest, and what a power cut damages is found by its
    hash and computed again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _sidecar_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _read_sidecar(path: Path) -> dict[str, Any]:
    """The sidecar of a table; empty if it is missing or unreadable."""
    try:
        sidecar = json.loads(_sidecar_path(path).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return sidecar if isinstance(sidecar, dict) else {}
