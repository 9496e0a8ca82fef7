"""Writes the record of one run to MLflow: a parent run, and a child per method.

Only the driver does this, with explicit run ids: MLflow's fluent interface keeps its active run per thread and obeys
MLFLOW_RUN_ID. A run that is continued finds its MLflow run by the tag `headlight.run_key`.
"""

from __future__ import annotations

import fcntl
import getpass
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from attribution.errors import HeadlightError, InputError
from pipeline.config import TrackingConfig
from pipeline.runs import Run
from pipeline.tracking.destination import DATABASE, Destination, check, destination, ui_address
from pipeline.tracking.payload import Payload, method_payloads, parent_payload

RUN_KEY, RESULTS, PARENT = "headlight.run_key", "headlight.results", "mlflow.parentRunId"
ARTIFACTS = frozenset({".parquet", ".json", ".yaml", ".html"})
_DIGEST = 36  # characters MLflow keeps of a fingerprint
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # nothing leaves the machine unasked
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # of 7: a server that dies must not hold the run for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


class Tracker:
    """The MLflow record of one run; does nothing where `tracking=none`.

    `prepare` refuses an address that does not work and opens the store in the background, `start` opens the run's
    record, `log` fills it from the finished run folder, and leaving the context closes it: FINISHED, KILLED on an
    interrupt, FAILED on any other exception.
    """

    def __init__(self, config: TrackingConfig, *, root: Path, run_key: str, name: str):
        self.destination = destination(config, root)
        self.run_key, self.name = run_key, name
        self.run_id: str | None = None
        self.experiment_id: str | None = None
        self._connection: _Connection | None = None

    def prepare(self) -> None:
        """Check the address now (InputError), connect meanwhile: the first connection to a new database is slow."""
        if self.destination and self._connection is None:
            check(self.destination)
            self._connection = _Connection(self.destination)

    def start(self) -> None:
        """Open the record of this run: the one an earlier attempt left, or a new one."""
        self.prepare()
        if self._connection is None:
            return
        with _reported(self._connection.target, InputError):
            client, self.experiment_id = self._connection.opened
            tags = {RUN_KEY: self.run_key}
            self.run_id = _found(client, self.experiment_id, tags) or _created(
                client, self.experiment_id, self.name, tags
            )
            client.update_run(self.run_id, status="RUNNING")

    def log(self, folder: Path, *, texts: bool = True) -> None:
        """Record a finished run folder: parameters, scalars and curves by method, and its files.

        Without `texts` the table of examples, which holds them and their tokens, stays in the run folder.
        """
        if self._connection is None or self.run_id is None:
            return
        run = Run(folder)
        with _reported(self._connection.target):
            client, experiment = self._connection.opened
            if _log(client, self.run_id, parent_payload(run)):
                _log_data(client, self.run_id, run.manifest.get("dataset") or {})
            for payload in method_payloads(run):
                self._log_method(client, experiment, payload)
            for path in sorted(path for path in folder.iterdir() if path.suffix in ARTIFACTS):
                if texts or path.name != "examples.parquet":
                    client.log_artifact(self.run_id, str(path))

    def record(self) -> dict[str, str | None]:
        """What the manifest keeps of it."""
        uri = self.destination.shown if self.destination else None
        return {"uri": uri, "run_id": self.run_id, "url": self.address()}

    def address(self) -> str | None:
        """How a person gets to see it: a link, or a command and a link; None without a record."""
        if self.destination is None or self.experiment_id is None:
            return None
        return ui_address(self.destination, self.experiment_id, self.run_id if self.destination.is_server else None)

    def close(self, status: str) -> None:
        """Set the final status: FINISHED, FAILED or KILLED."""
        if self._connection is not None and self.run_id is not None:
            with _reported(self._connection.target):
                self._connection.opened[0].set_terminated(self.run_id, status)

    def __enter__(self) -> Self:
        self.prepare()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return self.close("FINISHED")
        try:
            return self.close("KILLED" if isinstance(error, KeyboardInterrupt | SystemExit) else "FAILED")
        except HeadlightError as unrecorded:  # must not hide what ended the run
            return error.add_note(str(unrecorded))

    def _log_method(self, client: Any, experiment: str, payload: Payload) -> None:
        """One child run; left alone where an earlier attempt recorded the same."""
        tags = {PARENT: str(self.run_id), RUN_KEY: f"{self.run_key}/{payload.name}"}
        child = _found(client, experiment, tags) or _created(client, experiment, payload.name, tags)
        if _log(client, child, payload):
            client.set_terminated(child, "FINISHED")


class _Connection:
    """A client and its experiment. What is slow happens in a thread; nothing is written before it is asked for.

    Making a database takes MLflow seconds, so a new one is made in a temporary folder meanwhile, and moved to its place
    by the first who asks: it is there whole or not at all.
    """

    def __init__(self, target: Destination):
        self.target = target
        self._folder = tempfile.TemporaryDirectory(prefix="headlight-", ignore_cleanup_errors=True)
        self._fresh = Path(self._folder.name) / DATABASE
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._warm, name="mlflow", daemon=True)
        self._thread.start()

    @cached_property
    def opened(self) -> tuple[Any, str]:
        """The client and the experiment's id; raises what went wrong in the thread."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        if self.target.database is not None:
            _install(self._fresh, self.target.database)
        client = _client(self.target.uri)
        return client, _experiment(client, self.target)

    def _warm(self) -> None:
        missing = self.target.database is not None and not self.target.database.exists()
        try:
            _client(f"sqlite:///{self._fresh}" if missing else self.target.uri).search_experiments(max_results=1)
        except Exception as error:  # carried to the thread that asks
            self._error = error


def _client(uri: str) -> Any:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(uri)


def _install(fresh: Path, database: Path) -> None:
    """Move a new database to its place, unless another process was first."""
    database.parent.mkdir(parents=True, exist_ok=True)
    with _locked(database.with_suffix(".lock")):
        if not database.exists():
            partial = database.with_suffix(".new")
            shutil.copy(fresh, partial)
            partial.replace(database)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Only one process at a time."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _experiment(client: Any, target: Destination) -> str:
    from mlflow.exceptions import MlflowException

    artifacts = None if target.is_server else target.artifacts.as_uri()
    try:
        found = client.get_experiment_by_name(target.experiment)
        if found is None:
            return str(client.create_experiment(target.experiment, artifact_location=artifacts))
    except MlflowException:
        found = client.get_experiment_by_name(target.experiment)  # another process was first
        if found is None:
            raise
    if found.lifecycle_stage != "active":
        raise InputError(
            f"conf error: tracking.experiment={target.experiment} was deleted in MLflow; "
            "restore it there or take another name."
        )
    return str(found.experiment_id)


def _found(client: Any, experiment: str, tags: dict[str, str]) -> str | None:
    condition = " and ".join(f"tags.`{key}` = {_quoted(value)}" for key, value in tags.items())
    runs = client.search_runs([experiment], condition, max_results=1)
    return str(runs[0].info.run_id) if runs else None


def _quoted(value: str) -> str:
    return f'"{value}"' if "'" in value else f"'{value}'"


def _created(client: Any, experiment: str, name: str, tags: dict[str, str]) -> str:
    about = {"mlflow.source.name": "headlight run", "mlflow.source.type": "LOCAL", "mlflow.user": getpass.getuser()}
    return str(client.create_run(experiment, run_name=name, tags=about | tags).info.run_id)


def _log(client: Any, run_id: str, payload: Payload) -> bool:
    """All of a payload in one request, unless it is there already; whether anything was written.

    MLflow's parameters cannot change, so those of an earlier attempt stay.
    """
    from mlflow.entities import Metric, Param, RunTag

    now, known = int(time.time() * 1000), client.get_run(run_id).data
    if known.tags.get(RESULTS) == payload.digest:
        return False
    metrics = [Metric(key, value, now, 0) for key, value in payload.scalars.items()]
    metrics += [Metric(key, value, now, step) for key, steps in payload.curves.items() for step, value in steps.items()]
    params = [Param(key, value) for key, value in payload.params.items() if key not in known.params]
    tags = [RunTag(key, value) for key, value in {**payload.tags, RESULTS: payload.digest}.items()]
    client.log_batch(run_id, metrics, params, tags)
    return True


def _log_data(client: Any, run_id: str, data: dict[str, Any]) -> None:
    """The data set, as MLflow's lists show it; it keeps the name and the first characters of the fingerprint."""
    from mlflow.entities import Dataset, DatasetInput

    digest = str(data.get("fingerprint"))[:_DIGEST]
    entity = Dataset(str(data.get("name")), digest, source_type="headlight", source=str(data.get("split") or ""))
    client.log_inputs(run_id, [DatasetInput(entity, [])])


@contextmanager
def _reported(target: Destination, kind: type[HeadlightError] = HeadlightError) -> Iterator[None]:
    """MLflow's own errors as one line that says what they concern."""
    try:
        yield
    except HeadlightError:
        raise
    except Exception as error:
        if not type(error).__module__.startswith(("mlflow", "sqlalchemy", "requests")):
            raise
        first = str(error).splitlines()[0][:300]
        raise kind(f"tracking error: tracking.uri={target.shown} did not take the record: {first}") from error
