"""The record of a sweep: one MLflow run, and below it one for each job: two levels."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attribution.errors import InputError
from pipeline.config import TrackingConfig
from pipeline.folder import write_json
from pipeline.tracking.experiment import Experiment
from pipeline.tracking.payload import Payload, parameters, scalars
from pipeline.tracking.record import ARTIFACTS, Record, as_ms, now_ms
from pipeline.tracking.tracker import SWEEP, Tracker

SPOOL, TABLE = "tracking.json", "table.json"
_ROLE, _TABLES = "headlight.role", "mlflow.loggedArtifacts"


class SweepTracker(Record):
    """The MLflow record of a sweep, found again by the tag `headlight.sweep_id` when the sweep is continued.

    `with SweepTracker(...) as sweep: sweep.start(); job = sweep.job(...); ...; sweep.log(folder, ...)`. Each job is a
    `Tracker` of its own. What waits when the server goes away is written to `tracking.json` in the sweep's folder.
    """

    def __init__(self, config: TrackingConfig, *, root: Path, sweep_id: str, name: str):
        super().__init__(config, root=root, name=name)
        self.id, self.root = sweep_id, root
        self.jobs: list[Tracker] = []

    def job(self, *, run_key: str, name: str) -> Tracker:
        """The tracker of one run of the sweep."""
        self.prepare()
        tracker = Tracker(
            self.config, root=self.root, run_key=run_key, name=name, sweep=self, connection=self._connection
        )
        self.jobs.append(tracker)
        return tracker

    def log(
        self,
        folder: Path,
        *,
        params: Mapping[str, Any] | None = None,
        numbers: Mapping[str, float] | None = None,
        table: Sequence[Mapping[str, Any]] = (),
        failed: bool = False,
    ) -> None:
        """Record the sweep's folder and send what its jobs could not; `table` becomes a table MLflow shows.

        `params` are what was varied, `numbers` counts of jobs and their like.
        """
        if self.config.store == "none":
            return
        self.folder = folder
        if table:
            write_json(folder / TABLE, as_table(table))
        summary = {"params": dict(params or {}), "numbers": dict(numbers or {}), "failed": failed}
        self._keep(folder, {**summary, "started": _iso(self.started_ms), "finished": _iso(now_ms())})
        if self._connection is not None:
            self._deliver(lambda experiment: self._send(experiment, folder), self.config.wait_s)
        self._keep(folder)

    def send(self, folder: Path) -> None:
        """Send a sweep that has ended before, with the jobs that wait; HeadlightError where it cannot be sent."""
        self.prepare()
        self.folder = folder
        self.started_ms = as_ms(read_spool(folder)["started"])
        self._in_session(lambda experiment: self._send(experiment, folder))
        self._keep(folder)

    def run_in(self, experiment: Experiment) -> str:
        """The id of the sweep's MLflow run, made where there is none."""
        self.experiment_id = experiment.id
        return self._opened(experiment)

    def waiting(self) -> list[tuple[Tracker, Path]]:
        """The finished jobs whose record has not been sent, with their folders."""
        return [(job, job.folder) for job in self.jobs if job.folder is not None and not job.ended]

    def _open(self, experiment: Experiment) -> str:
        return experiment.open(self.name, {SWEEP: self.id, _ROLE: "sweep"}, self.started_ms)

    def _send(self, experiment: Experiment, folder: Path) -> None:
        run_id, spool = self._opened(experiment), read_spool(folder)
        for job, job_folder in self.waiting():
            job.send(job_folder, texts=job.texts)
        ended = as_ms(spool["finished"])
        experiment.log(run_id, self._payload(folder, spool), ended)
        experiment.log_files(
            run_id, [path for path in folder.iterdir() if path.suffix in ARTIFACTS and path.name != SPOOL]
        )
        experiment.close(run_id, "FAILED" if spool["failed"] else "FINISHED", ended)
        self.ended, self.held = True, None

    def _payload(self, folder: Path, spool: Mapping[str, Any]) -> Payload:
        tags = {_TABLES: json.dumps([{"path": TABLE, "type": "table"}])} if (folder / TABLE).exists() else {}
        return Payload(self.name, tags, parameters(spool["params"]), scalars(spool["numbers"].items()))

    def _keep(self, folder: Path, summary: Mapping[str, Any] | None = None) -> None:
        """Write down what is known: enough to send it without this process."""
        known = summary or read_spool(folder)
        jobs = [os.path.relpath(job_folder, folder) for _, job_folder in self.waiting()]
        write_json(
            folder / SPOOL, {**known, "sweep": {"id": self.id, "name": self.name}, "jobs": jobs, **self.record()}
        )


def read_spool(folder: Path) -> dict[str, Any]:
    """What a sweep's folder says about its record; InputError where there is nothing."""
    try:
        spool: dict[str, Any] = json.loads((folder / SPOOL).read_text("utf-8"))
    except FileNotFoundError:
        raise InputError(f"run error: {folder} is not the folder of a sweep: it has no {SPOOL}") from None
    return spool


def as_table(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows as MLflow's table artifacts hold them."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return {"columns": columns, "data": [[row.get(column) for column in columns] for row in rows]}


def _iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
