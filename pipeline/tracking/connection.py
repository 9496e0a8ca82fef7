"""The way to MLflow: a client that is made in the background, and what it means when it fails."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attribution.errors import HeadlightError, InputError
from pipeline.redact import redacted
from pipeline.tracking.destination import DATABASE, Destination, Unreachable, probe
from pipeline.tracking.experiment import Experiment

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # nothing leaves the machine unasked
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # a repeated "create run" makes two; what failed is looked up, then redone
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",  # of 120
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # two lines for every method; the run prints one address
}
_OF_THE_STORE = ("mlflow", "sqlalchemy", "requests", "urllib3", "botocore", "boto3")
_PASSING = (408, 429)  # refusals that another attempt may not meet


class Connection:
    """A client and its experiment. What is slow happens in a thread; nothing is written before it is asked for.

    Making a database takes MLflow seconds, so a new one is made in a temporary folder meanwhile, and moved to its place
    by the first who asks: it is there whole or not at all.
    """

    def __init__(self, target: Destination):
        self.target = target
        self._folder = tempfile.TemporaryDirectory(prefix="headlight-", ignore_cleanup_errors=True)
        self._fresh = Path(self._folder.name) / DATABASE
        self._opened: Experiment | None = None
        self._failure: tuple[float, Unreachable] | None = None  # when, and how, the last session failed
        self._warm()

    @contextmanager
    def session(self, pause_s: float = 0.0) -> Iterator[Experiment]:
        """The experiment, from a server that answers.

        Raises `Unreachable` where trying again may help, HeadlightError for other errors of the store. Within `pause_s`
        seconds of a failure it raises that again: many who ask must not wait for a dead server one after another.
        """
        if self._failure is not None and time.monotonic() - self._failure[0] < pause_s:
            raise self._failure[1]
        try:
            with _reported(self.target):
                probe(self.target)
                yield self._experiment()
        except Unreachable as error:
            self._failure = time.monotonic(), error
            raise
        self._failure = None

    def _experiment(self) -> Experiment:
        """The client and the experiment's id; raises what went wrong in the thread, and lets the next one try again."""
        if self._opened is None:
            self._thread.join()
            if (error := self._error) is not None:
                self._warm()
                raise error
            if self.target.database is not None:
                _install(self._fresh, self.target.database)
            client = _client(self.target.uri)
            self._opened = Experiment(client, _experiment_id(client, self.target))
        return self._opened

    def _warm(self) -> None:
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._connect, name="mlflow", daemon=True)
        self._thread.start()

    def _connect(self) -> None:
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


def _experiment_id(client: Any, target: Destination) -> str:
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


@contextmanager
def _reported(target: Destination) -> Iterator[None]:
    """MLflow's own errors, and those of the files, as one line that says what they concern."""
    try:
        yield
    except HeadlightError:
        raise
    except Exception as error:
        if not (isinstance(error, OSError) or type(error).__module__.startswith(_OF_THE_STORE)):
            raise
        kind = HeadlightError if _is_final(error) else Unreachable
        first = next(iter(str(error).splitlines()), type(error).__name__)[:300]
        text = f"tracking error: tracking.uri={target.shown} did not take the record: {redacted(first)}"
        raise kind(text) from error


def _is_final(error: Exception) -> bool:
    """Whether the server understood and said no: HTTP 4xx, as MLflow and requests carry it."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is None and hasattr(error, "get_http_status_code"):
        status = error.get_http_status_code()
    return status is not None and 400 <= status < 500 and status not in _PASSING
