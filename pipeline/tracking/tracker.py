"""The record of one run: alone a parent with a child for each method, in a sweep a child of the sweep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from attribution.errors import HeadlightError
from pipeline.config import TrackingConfig
from pipeline.folder import write_json
from pipeline.runs import MANIFEST, Run
from pipeline.tracking.connection import Connection
from pipeline.tracking.experiment import PARENT, Experiment
from pipeline.tracking.payload import Payload, job_payload, method_payloads, parent_payload
from pipeline.tracking.record import ARTIFACTS, Record, as_ms

RUN_KEY, SWEEP = "headlight.run_key", "headlight.sweep_id"
_RESOLUTION_MS = 1000  # manifests cut times to seconds; nothing ends before it starts
JOB_PAUSE_S = 60.0  # the jobs of a sweep ask a server that is down once a minute, not one after another


class Parent(Protocol):
    """What a job knows of its sweep."""

    id: str
    name: str

    def run_in(self, experiment: Experiment) -> str:
        """The id of the sweep's MLflow run, made where there is none."""


@dataclass(frozen=True)
class _Contents:
    """All that MLflow is told about a finished run folder."""

    own: Payload
    children: list[Payload]
    data: dict[str, Any]
    files: list[Path]
    started_ms: int
    ended_ms: int
    status: str


class Tracker(Record):
    """The MLflow record of one run, found again by the tag `headlight.run_key` when the run is continued."""

    def __init__(
        self,
        config: TrackingConfig,
        *,
        root: Path,
        run_key: str,
        name: str,
        sweep: Parent | None = None,
        connection: Connection | None = None,
    ):
        """`sweep` and its `connection` are given by `SweepTracker.job`."""
        super().__init__(config, root=root, name=name)
        self.run_key, self.sweep, self.texts = run_key, sweep, True
        self._connection = connection
        self._pause_s = JOB_PAUSE_S if connection else 0.0

    def log(self, folder: Path, *, texts: bool = True) -> None:
        """Record a finished run folder: parameters, scalars and curves by method, and its files.

        Without `texts` the table of examples, which holds them and their tokens, stays in the run folder. Where the
        server does not answer, what is missing waits in the folder; a job of a sweep leaves the patience to its sweep.
        """
        if self.config.store == "none":
            return
        self.folder, self.texts = folder, texts
        if self._connection is not None:
            contents = self._contents(folder, texts)
            self._deliver(lambda experiment: self._send(experiment, contents), 0 if self.sweep else self.config.wait_s)
        self._note(folder, self.record())

    def take_over(self, folder: Path) -> bool:
        """Whether the record of a finished folder is where it is to be, and nothing is to be sent but what waits."""
        if self.config.store == "none":
            return True
        kept = Run(folder).manifest.get("tracking") or {}
        if kept.get("waiting"):
            self.folder = folder if self._connection is None else None  # `headlight sync` of the sweep sends it
            return self._connection is None
        if self._connection is not None and not self._has_ended(kept.get("run_id")):
            return False
        self.run_id, self.ended = kept.get("run_id"), True
        return True

    def _has_ended(self, run_id: str | None) -> bool:
        ended: list[bool] = []
        try:
            self._in_session(lambda experiment: ended.append(run_id is not None and experiment.has_ended(run_id)))
        except HeadlightError:  # who writes the record again says what is wrong
            return False
        return ended == [True]

    def send(self, folder: Path, *, texts: bool = True) -> None:
        """The same for a run that has ended before; raises HeadlightError where it cannot be sent."""
        self.prepare()
        self.folder = folder
        contents = self._contents(folder, texts)
        self.started_ms = contents.started_ms
        self._in_session(lambda experiment: self._send(experiment, contents))

    def record(self) -> dict[str, Any]:
        """What the manifest keeps of it; a job names its sweep, so that it can be sent by itself."""
        sweep = {"sweep": {"id": self.sweep.id, "name": self.sweep.name}} if self.sweep else {}
        return super().record() | sweep

    def _open(self, experiment: Experiment) -> str:
        tags = {RUN_KEY: self.run_key}
        if self.sweep is None:
            return experiment.open(self.name, tags, self.started_ms, without=SWEEP)
        tags |= {SWEEP: self.sweep.id, PARENT: self.sweep.run_in(experiment)}
        return experiment.open(self.name, tags, self.started_ms)

    def _contents(self, folder: Path, texts: bool) -> _Contents:
        run = Run(folder)
        own, children = (job_payload(run), []) if self.sweep else (parent_payload(run), method_payloads(run))
        files = [path for path in folder.iterdir() if path.suffix in ARTIFACTS and path.name != MANIFEST]
        started, ended = as_ms(run.manifest["created"]), as_ms(run.manifest["finished"]) + _RESOLUTION_MS
        status = "FAILED" if run.manifest.get("status") == "failed" else "FINISHED"
        kept = [path for path in files if texts or path.name != "examples.parquet"]
        return _Contents(own, children, run.manifest.get("dataset") or {}, kept, started, ended, status)

    def _send(self, experiment: Experiment, contents: _Contents) -> None:
        """In an order that makes the manifest, as anywhere else, the last thing written."""
        assert self.folder is not None
        run_id = self._opened(experiment)
        experiment.log(run_id, contents.own, contents.ended_ms)
        experiment.log_data(run_id, contents.data)
        for child in contents.children:
            self._send_child(experiment, child, contents)
        experiment.log_files(run_id, contents.files)
        experiment.close(run_id, contents.status, contents.ended_ms)
        self._note(self.folder, self.record() | {"waiting": None})
        experiment.client.log_artifact(run_id, str(self.folder / MANIFEST))
        self.ended, self.held = True, None

    def _send_child(self, experiment: Experiment, payload: Payload, contents: _Contents) -> None:
        tags = {PARENT: str(self.run_id), RUN_KEY: f"{self.run_key}/{payload.name}"}
        child = experiment.open(payload.name, tags, contents.started_ms)
        experiment.log(child, payload, contents.ended_ms)
        experiment.close(child, "FINISHED", contents.ended_ms)

    def _note(self, folder: Path, record: dict[str, Any]) -> None:
        """Keep in the manifest where the record is."""
        manifest = Run(folder).manifest
        if manifest.get("tracking") != record:
            write_json(folder / MANIFEST, {**manifest, "tracking": record})
