"""Sending the record of runs that ended without MLflow."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attribution.errors import InputError
from pipeline.config import TrackingConfig
from pipeline.redact import without_credentials
from pipeline.runs import Run
from pipeline.tracking.record import Record
from pipeline.tracking.sweep import SPOOL, SweepTracker, read_spool
from pipeline.tracking.tracker import Tracker


def sync(folder: Path, root: Path, to: str | None = None) -> str | None:
    """Send the record of a run, or of a sweep and of the jobs in it that wait; returns where it can be seen.

    It goes to the address `to`, else where the run's configuration, MLFLOW_TRACKING_URI or the run's manifest say, else
    to the database in `root`. Sending twice adds nothing. InputError where the address does not work.
    """
    record = _sweep(folder, root, to) if (folder / SPOOL).exists() else _run(folder, root, to)
    return record.address()


def _run(folder: Path, root: Path, to: str | None) -> Record:
    run = Run(folder)
    known = run.manifest.get("tracking") or {}
    config = _destination(run.config.get("tracking") or {}, known, to)
    tracker = _tracker(run, config, root)
    tracker.send(folder, texts=_texts(run))
    return tracker


def _sweep(folder: Path, root: Path, to: str | None) -> Record:
    spool = read_spool(folder)
    sweep = _parent(spool["sweep"], _destination({}, spool, to), root)
    for path in spool["jobs"]:
        run = Run(folder / path)
        job = sweep.job(run_key=_key(run), name=str(run.manifest["name"]))
        job.folder, job.texts = run.folder, _texts(run)
    sweep.send(folder)
    return sweep


def _tracker(run: Run, config: TrackingConfig, root: Path) -> Tracker:
    key, name = _key(run), str(run.manifest["name"])
    sweep = (run.manifest.get("tracking") or {}).get("sweep")
    return (
        _parent(sweep, config, root).job(run_key=key, name=name)
        if sweep
        else Tracker(config, root=root, run_key=key, name=name)
    )


def _parent(sweep: Mapping[str, str], config: TrackingConfig, root: Path) -> SweepTracker:
    return SweepTracker(config, root=root, sweep_id=sweep["id"], name=sweep["name"])


def _destination(configured: Mapping[str, Any], known: Mapping[str, Any], to: str | None) -> TrackingConfig:
    """Addresses that were written down have lost their credentials, so the environment goes before the manifest."""
    kept = configured.get("uri") or (None if os.environ.get("MLFLOW_TRACKING_URI") else known.get("uri"))
    experiment = configured.get("experiment") or known.get("experiment")
    return TrackingConfig("sqlite", uri=to or without_credentials(kept or "") or None, experiment=experiment)


def _key(run: Run) -> str:
    key = run.manifest.get("run_key")
    if key is None:
        raise InputError(f"run error: {run.folder} does not say which experiment it is (run_key); run it again.")
    return str(key)


def _texts(run: Run) -> bool:
    return bool((run.config.get("report") or {}).get("texts", "full") == "full")
