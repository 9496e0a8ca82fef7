"""Real `mlflow server` and PostgreSQL processes for tests: started on this machine only, and ended with the test."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

START_WITHIN_S = 180.0  # a new database takes MLflow half a minute on a busy machine
_QUIET = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


@dataclass
class MlflowServer:
    """`mlflow server` on a loopback port, with its files behind it; may be killed and started again."""

    backend: str  # address of the database
    folder: Path  # where it keeps artifacts and its log
    port: int = field(default_factory=lambda: free_port())
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        options = {
            "--backend-store-uri": self.backend,
            "--artifacts-destination": str(self.folder / "artifacts"),
            "--host": "127.0.0.1",
            "--port": str(self.port),
            "--workers": "1",
        }
        command = [sys.executable, "-m", "mlflow", "server", *(word for pair in options.items() for word in pair)]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=os.environ | _QUIET, start_new_session=True, cwd=self.folder
            )
        wait_until(self._healthy, self.folder / "server.log")

    def kill(self) -> None:
        """At once, with all its processes: they are in a session of their own."""
        if self.process is not None:
            with suppress(ProcessLookupError):  # it ended by itself
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=30)
            self.process = None

    def _healthy(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError((self.folder / "server.log").read_text()[-3000:])
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def mlflow_server(backend: str, folder: Path) -> Iterator[MlflowServer]:
    """A server that answers."""
    folder.mkdir(parents=True, exist_ok=True)
    server = MlflowServer(backend, folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def postgres() -> Iterator[str]:
    """The address of a new PostgreSQL database on a unix socket; skips where its programs are not installed.

    The driver is named: what plain `postgresql://` means depends on the version of SQLAlchemy.
    """
    programs = _postgres_programs()
    owner = pwd.getpwnam("postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name)
    folder = Path(tempfile.mkdtemp(prefix="headlight-pg-", dir="/tmp"))  # pytest's folders are closed to other users
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    as_owner = {"user": owner.pw_uid, "group": owner.pw_gid} if os.getuid() == 0 else {}
    data, log = folder / "data", folder / "log"
    initdb = [programs / "initdb", "-D", data, "-U", "headlight", "-A", "trust", "--no-sync"]
    subprocess.run(initdb, check=True, capture_output=True, timeout=120, **as_owner)
    settings = ["-c", "listen_addresses=", "-c", "fsync=off", "-k", folder]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, *settings], stdout=output, stderr=output, **as_owner
        )
    try:
        wait_until(lambda: "ready to accept connections" in log.read_text(), log)
        yield f"postgresql+psycopg2://headlight@/postgres?host={folder}"
    finally:
        server.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
        server.wait(timeout=60)
        shutil.rmtree(folder)


def _postgres_programs() -> Path:
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed (pip install psycopg2-binary)")
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = shutil.which("initdb")
    found = [
        place
        for place in [*([Path(on_path).resolve().parent] if on_path else []), *places]
        if (place / "initdb").exists()
    ]
    if not found:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    if os.getuid() == 0 and "postgres" not in {user.pw_name for user in pwd.getpwall()}:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    return found[0]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until(ready: object, log: Path) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while not ready():  # type: ignore[operator]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.2)
