"""What a sweep leaves behind: `sweep.json` in a folder of its own, beside the folders of its runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attribution.errors import InputError
from pipeline.folder import write_json
from pipeline.runs import MANIFEST, Run
from pipeline.schemas import SCHEMA_VERSION
from pipeline.sweep.job import Job

SWEEP = "sweep.json"


def write_record(folder: Path, about: Mapping[str, Any], jobs: Sequence[Job]) -> None:
    """Write the record, whole or not at all."""
    record = {"schema_version": SCHEMA_VERSION, **about, "jobs": [_entry(folder, job) for job in jobs]}
    write_json(folder / SWEEP, record)


def _entry(folder: Path, job: Job) -> dict[str, Any]:
    result = job.run.result if job.run else None
    return {
        "name": job.cell.config.name,
        "choices": dict(job.cell.choices),
        "overrides": list(job.cell.overrides),
        "status": str(job.status),
        "error": job.error,
        "traceback": job.trace,
        "folder": os.path.relpath(result.folder, folder) if result else None,
        "seconds": round(job.seconds, 3),
        "reuse": job.run.experiment.facts.reuse if job.run else {},
    }


@dataclass(frozen=True)
class SweepFolder:
    """A sweep on disk."""

    folder: Path
    record: dict[str, Any]

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """One entry for each cell, in their order."""
        return list(self.record["jobs"])

    def run_of(self, job: Mapping[str, Any]) -> Run | None:
        """The run of a job; None where it left none."""
        if not job["folder"]:
            return None
        run = Run((self.folder / job["folder"]).resolve())
        return run if (run.folder / MANIFEST).exists() else None


def find_sweep(ref: str, sweeps: Path) -> SweepFolder | None:
    """The sweep of a path, a name or `last`; None where there is none of that name."""
    if ref == "last":
        found = sorted(sweeps.glob(f"*/{SWEEP}"), key=lambda path: path.stat().st_mtime)
        return _read(found[-1].parent) if found else None
    for folder in (Path(ref).expanduser(), sweeps / ref):
        if (folder / SWEEP).is_file():
            return _read(folder)
    return None


def _read(folder: Path) -> SweepFolder:
    try:
        return SweepFolder(folder, json.loads((folder / SWEEP).read_text("utf-8")))
    except ValueError as error:
        raise InputError(f"run error: {folder / SWEEP} cannot be read: {error}") from None
