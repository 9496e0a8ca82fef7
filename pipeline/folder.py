"""The folder of a run: tables, configuration and manifest, each written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.store import write_atomically, write_table


@dataclass
class RunFolder:
    """A folder and the sha256 of what was written to it."""

    path: Path
    files: dict[str, str] = field(default_factory=dict)

    def write(self, tables: Mapping[str, pa.Table], config_yaml: str) -> None:
        """Write all tables and the resolved configuration."""
        for name, table in tables.items():
            self.files[f"{name}.parquet"] = write_table(self.path / f"{name}.parquet", table)
        write_atomically(self.path / "config.yaml", config_yaml.encode())

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest, which says that the tables are complete."""
        write_json(self.path / "manifest.json", {**manifest, "files": self.files})


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file for programs and people."""
    write_atomically(path, json.dumps(content, indent=2, sort_keys=True, default=str).encode() + b"\n")


def claim_folder(runs: Path, name: str, run_key: str) -> RunFolder:
    """`runs/name`, or `runs/name-2` and so on where that holds another experiment."""
    number = 1
    while True:
        path = runs / (name if number == 1 else f"{name}-{number}")
        if not path.exists() or _key(path) == run_key:
            path.mkdir(parents=True, exist_ok=True)
            write_atomically(path / "run_key", run_key.encode())
            return RunFolder(path)
        number += 1


def _key(path: Path) -> str | None:
    """Which experiment a folder holds; None if it is nobody's."""
    marker = path / "run_key"
    return marker.read_text() if marker.is_file() else None
