"""Finished and unfinished runs on disk: reading one, finding one by what a person calls it, listing all."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from omegaconf import OmegaConf

from attribution.errors import InputError
from pipeline.schemas import OPTIONAL_TABLES, RUN_TABLES, SCHEMA_VERSION
from pipeline.standing import best, standings

MANIFEST, CONFIG, REPORT = "manifest.json", "config.yaml", "report.html"
_ID_PREFIX = 6  # characters of an id that are enough to name a run


@dataclass(frozen=True)
class Run:
    """A run folder, read as needed."""

    folder: Path

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What the run recorded about itself."""
        return read_manifest(self.folder)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration; empty where the folder has none."""
        path = self.folder / CONFIG
        return dict(OmegaConf.to_container(OmegaConf.load(path), resolve=False)) if path.exists() else {}  # type: ignore[arg-type]

    def table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """A table of the run by its id in RUN_TABLES or OPTIONAL_TABLES; no rows where the run did not write it.

        Columns that the run's schema did not have yet are null.
        """
        path, schema = self.folder / f"{name}.parquet", {**RUN_TABLES, **OPTIONAL_TABLES}[name]
        if path.exists():
            with pq.ParquetFile(path) as file:
                return _current(file.read(columns=columns), schema, columns)
        empty = schema.empty_table()
        return empty.select(columns) if columns else empty


def _current(table: pa.Table, schema: pa.Schema, columns: list[str] | None) -> pa.Table:
    """The table with the columns that came into the schema after it was written."""
    for column in schema:
        if column.name not in table.column_names and (columns is None or column.name in columns):
            table = table.append_column(column, pa.nulls(table.num_rows, column.type))
    return table


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run folder; InputError where it is missing, broken, or of a schema this version cannot read."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"run error: {folder} is not a run: it has no {MANIFEST}. `headlight runs` lists them."
        ) from None
    except ValueError as error:
        raise InputError(f"run error: {folder / MANIFEST} cannot be read: {error}") from None
    version = str(manifest.get("schema_version"))
    if version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise InputError(
            f"run error: {folder} has schema {version}; this Headlight reads {SCHEMA_VERSION.split('.')[0]}.x."
        )
    return manifest


def resolve_run(ref: str, runs_dir: Path) -> Path:
    """The folder of a run given as path, folder or run name, id (also MLflow's, or its first characters), `last`, or
    `champion` (`champion:SERIES` where there are several).
    """
    path = Path(ref).expanduser()
    if path.name == MANIFEST or (path / MANIFEST).exists():
        return path.parent if path.name == MANIFEST else path
    if re.fullmatch(r"champion(:.+)?", ref):
        from pipeline.regression.champion import champion_folder  # knows how runs are read

        return champion_folder(runs_dir.parent, ref.partition(":")[2] or None)
    known = {folder: manifest for folder, manifest in _manifests(runs_dir) if manifest}
    found = _matching(ref, known)
    if found:
        return max(found, key=lambda folder: _created(known[folder]))
    raise InputError(_unknown(ref, runs_dir, [folder.name for folder in known]))


def list_runs(runs_dir: Path) -> list[dict[str, Any]]:
    """One row per run folder, newest first: name, status, created, model, dataset, n, best, metric, value, id."""
    rows = [_row(folder, manifest) for folder, manifest in _manifests(runs_dir)]
    return sorted(rows, key=lambda row: (str(row["created"]), str(row["name"])), reverse=True)


def _manifests(runs_dir: Path) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """Run folders with their manifests; None where a run was stopped before it wrote one."""
    for folder in sorted(runs_dir.iterdir()) if runs_dir.is_dir() else ():
        if (folder / MANIFEST).exists():
            yield folder, read_manifest(folder)
        elif (folder / CONFIG).exists():
            yield folder, None


def _matching(ref: str, known: dict[Path, dict[str, Any]]) -> list[Path]:
    """Folders a reference can mean, by the first reading that fits any."""
    readings = (
        lambda folder, manifest: ref == "last",
        lambda folder, manifest: ref == folder.name,
        lambda folder, manifest: ref == manifest.get("name"),
        lambda folder, manifest: (
            len(ref) >= _ID_PREFIX and any(known_id.startswith(ref) for known_id in _ids(manifest))
        ),
    )
    for reading in readings:
        found = [folder for folder, manifest in known.items() if reading(folder, manifest)]
        if found:
            return found
    return []


def _ids(manifest: dict[str, Any]) -> list[str]:
    ids = (manifest.get("run_id"), (manifest.get("tracking") or {}).get("run_id"))
    return [str(known_id) for known_id in ids if known_id]


def _created(manifest: dict[str, Any]) -> str:
    return str(manifest.get("created", ""))


def _unknown(ref: str, runs_dir: Path, names: list[str]) -> str:
    if not names:
        return f"run error: {ref} is not a run: there are no runs in {runs_dir}. `headlight run` makes one."
    near = difflib.get_close_matches(ref, names, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"{len(names)} runs are in {runs_dir}."
    return f"run error: {ref} is not a run (path, name, id, last or champion). {hint} `headlight runs` lists them."


def _row(folder: Path, manifest: dict[str, Any] | None) -> dict[str, Any]:
    row: dict[str, Any] = {"name": folder.name, "status": "unfinished", "created": "", "folder": str(folder)}
    row |= dict.fromkeys(("model", "dataset", "n", "best", "metric", "value", "id"))
    if manifest is None:
        return row
    first = best(standings(Run(folder).table("metrics").to_pylist()), manifest)
    model, data = manifest.get("model") or {}, manifest.get("dataset") or {}
    row |= {"status": manifest.get("status"), "created": _created(manifest), "id": manifest.get("run_id")}
    row |= {"model": model.get("name"), "dataset": data.get("name"), "n": data.get("n")}
    return row | ({"best": first.method, "metric": first.metric, "value": first.value} if first else {})
