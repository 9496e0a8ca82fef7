"""The folder of a run: tables, configuration and manifest, each written whole or not at all."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.errors import ResultMissing
from pipeline.files import reported, write_atomically
from pipeline.redact import redacted_tree
from pipeline.schemas import SHARDS
from pipeline.store import Store, name_of, parquet_bytes

MARKER = "run_key"  # the file that says which experiment a folder holds
RESULTS = "results.txt"


@dataclass
class RunFolder:
    """A folder and the sha256 of what was written to it."""

    path: Path
    files: dict[str, str] = field(default_factory=dict)

    def write(self, tables: Mapping[str, pa.Table], config_yaml: str) -> None:
        """Write all tables and the resolved configuration."""
        for name, table in tables.items():
            data = parquet_bytes(table)
            self.files[f"{name}.parquet"] = hashlib.sha256(data).hexdigest()
            self._write(f"{name}.parquet", data)
        self._write("config.yaml", config_yaml.encode())

    def write_models(self, kept: Mapping[str, tuple[str, str]], store: Store) -> None:
        """Write the files of models, {folder: stage and key in the store}; the store has what they are checked by."""
        for folder, (stage, key) in kept.items():
            table = store.get(key, stage)
            if table is None:
                raise ResultMissing(f"the files of {folder} are not in {store.location}; run again to compute them")
            for row in table.to_pylist():
                self._write(f"{folder}/{row['name']}", row["data"])

    def write_results(self, keys: Mapping[str, Iterable[str]]) -> None:
        """Write the names of the store's tables that the run refers to, {stage: keys}, one on a line."""
        names = sorted(name_of(key, stage) for stage, each in keys.items() for key in each)
        self._write(RESULTS, "".join(f"{name}\n" for name in names).encode())

    def write_shards(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Write what the tasks took; a run that found everything at hand leaves what an earlier one wrote."""
        if rows:
            columns = dict(zip(SHARDS.names, zip(*rows, strict=True), strict=True))
            self._write("shards.parquet", parquet_bytes(pa.table(columns, schema=SHARDS)))

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest, which says that the tables are complete."""
        self._write("manifest.json", as_json({**manifest, "files": self.files}))

    def _write(self, name: str, data: bytes) -> None:
        with reported(f"paths.runs={self.path.parent}", f"{self.path.name}/{name}", "written"):
            write_atomically(self.path / name, data)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file for programs and people, without secrets."""
    write_atomically(path, as_json(content))


def as_json(content: Mapping[str, Any]) -> bytes:
    """Bytes of such a file."""
    return json.dumps(redacted_tree(content), indent=2, sort_keys=True, default=str).encode() + b"\n"


def claim_folder(runs: Path, name: str, run_key: str) -> RunFolder:
    """`runs/name`, or `runs/name-2` and so on where that holds another experiment."""
    with reported(f"paths.runs={runs}", name, "written"):
        return RunFolder(next(path for path in _candidates(runs, name) if _claimed(path, run_key)))


def find_folder(runs: Path, name: str, run_key: str) -> Path | None:
    """The folder that `claim_folder` would give where it is there already; nothing is made."""
    there = itertools.takewhile(Path.exists, _candidates(runs, name))
    return next((path for path in there if _key(path) == run_key), None)


def _candidates(runs: Path, name: str) -> Iterator[Path]:
    yield runs / name
    yield from (runs / f"{name}-{number}" for number in itertools.count(2))


def _claimed(path: Path, run_key: str) -> bool:
    """Whether a folder is this experiment's; one that is not there is made so."""
    if not path.exists():
        _make(path, run_key)
    return _key(path) == run_key


def _make(path: Path, run_key: str) -> None:
    """Make a folder with its key inside from the start; where another process is quicker, it stays the other's."""
    unclaimed = path.with_name(f".{path.name}.{uuid.uuid4().hex}.new")
    unclaimed.mkdir(parents=True)
    try:
        (unclaimed / MARKER).write_text(run_key)
        unclaimed.rename(path)
    except OSError:
        if not path.exists():
            raise
    finally:
        shutil.rmtree(unclaimed, ignore_errors=True)


def _key(path: Path) -> str | None:
    """Which experiment a folder holds; None if it is nobody's."""
    marker = path / MARKER
    return marker.read_text() if marker.is_file() else None
