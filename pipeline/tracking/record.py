"""One MLflow run from start to end, whether or not the server is there all the time."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from attribution.errors import HeadlightError, InputError
from pipeline.config import TrackingConfig
from pipeline.redact import without_credentials
from pipeline.tracking.connection import Connection
from pipeline.tracking.destination import Unreachable, check, destination, experiment_name, ui_address
from pipeline.tracking.experiment import Experiment

ARTIFACTS = frozenset({".parquet", ".json", ".yaml", ".html", ".md", ".csv", ".tex"})
_log = logging.getLogger(__name__)
_NOT_YET = "it has not been sent yet"
_TRY_EVERY_S = 1.0


class Record(ABC):
    """The record of something that is run; does nothing where `tracking=none`.

    `prepare` refuses an address that does not work and opens the store in the background, `start` opens the MLflow run,
    the subclass's `log` fills it from a finished folder and ends it, and leaving the context ends what was not logged:
    KILLED on an interrupt, FAILED on any other exception. A server that goes away in between stops nothing: the folder
    is the spool, `held` says why it waits, and `headlight sync` sends it.
    """

    def __init__(self, config: TrackingConfig, *, root: Path, name: str):
        self.config, self.name = config, name
        self.destination = destination(config, root)
        self.run_id: str | None = None
        self.experiment_id: str | None = None
        self.held: str | None = "tracking=offline" if config.store == "offline" else None
        self.ended = False
        self.folder: Path | None = None
        self.started_ms = now_ms()
        self._connection: Connection | None = None
        self._opening = threading.Lock()
        self._pause_s = 0.0  # how long nobody is asked after a failure

    @abstractmethod
    def _open(self, experiment: Experiment) -> str:
        """The MLflow run's id, found or made."""

    def prepare(self) -> None:
        """Check the address now (InputError), connect meanwhile: the first connection to a new database is slow."""
        if self.destination and self._connection is None:
            check(self.destination)
            self._connection = Connection(self.destination)

    def start(self) -> None:
        """Open the MLflow run: the one an earlier attempt left, or a new one. InputError where the store refuses it."""
        self.prepare()
        self.started_ms = now_ms()
        try:
            self._in_session(lambda experiment: experiment.reopen(self._opened(experiment)))
        except HeadlightError as error:
            assert self.destination is not None
            if not (isinstance(error, Unreachable) and self.destination.is_server):
                raise InputError(str(error)) from error
            if not self._pause_s:
                _log.warning("%s; the run goes on, and its record is sent at the end", _in_one_line(error))

    def close(self, status: str) -> None:
        """End the MLflow run where no `log` did: FINISHED, FAILED or KILLED."""
        if self.run_id is not None and not self.ended and self.held is None:
            run_id = self.run_id
            self._in_session(lambda experiment: experiment.close(run_id, status, now_ms()))
            self.ended = True

    def address(self) -> str | None:
        """How a person gets to see it: a link, or a command and a link, or how to send it; None without a record."""
        if self.held is not None and self.folder is not None:
            return f"the record waits in {self.folder} ({self.held}); `headlight sync {self.folder}` sends it"
        return self._link()

    def record(self) -> dict[str, Any]:
        """What the folder keeps of it: where it is or is to be sent, and why it is not there yet."""
        if self.config.store == "none":
            return dict.fromkeys(("uri", "experiment", "run_id", "url", "waiting"))
        uri = self.destination.shown if self.destination else without_credentials(self.config.uri or "") or None
        place = {"uri": uri, "experiment": experiment_name(self.config), "run_id": self.run_id, "url": self._link()}
        return place | {"waiting": self.held or (None if self.ended else _NOT_YET)}

    def __enter__(self) -> Self:
        self.prepare()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stopped = "FAILED" if isinstance(error, Exception) else "KILLED"  # an interrupt, or a job nobody drives on
        try:
            self.close(stopped if error else "FINISHED")
        except HeadlightError as unrecorded:  # must not hide how the run ended
            _log.warning("%s; MLflow shows it as running until it is continued", _in_one_line(unrecorded))

    def _deliver(self, send: Callable[[Experiment], None], patience_s: float) -> None:
        """Send; for so many seconds again and again while the server does not answer, then keep it for later."""
        deadline = time.monotonic() + patience_s
        while True:
            try:
                return self._in_session(send)
            except HeadlightError as error:
                self.held = _in_one_line(error)
                if not isinstance(error, Unreachable) or time.monotonic() + _TRY_EVERY_S > deadline:
                    return None
            time.sleep(_TRY_EVERY_S)

    def _in_session(self, use: Callable[[Experiment], None]) -> None:
        if self._connection is not None:
            with self._connection.session(self._pause_s) as experiment:
                self.experiment_id = experiment.id
                use(experiment)

    def _opened(self, experiment: Experiment) -> str:
        with self._opening:  # one job of a sweep may begin while another is recorded
            if self.run_id is None:
                self.run_id = self._open(experiment)
            return self.run_id

    def _link(self) -> str | None:
        if self.destination is None or self.experiment_id is None:
            return None
        return ui_address(self.destination, self.experiment_id, self.run_id if self.destination.is_server else None)


def now_ms() -> int:
    """As MLflow writes times."""
    return int(time.time() * 1000)


def as_ms(time_of: str) -> int:
    """The same of an ISO time."""
    return int(datetime.fromisoformat(time_of).timestamp() * 1000)


def _in_one_line(error: HeadlightError) -> str:
    return " ".join(str(error).removeprefix("tracking error: ").removeprefix("conf error: ").split())
