"""The launcher of the nightly RayJob, against an API server that answers as Kubernetes would."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "docker/k8s"
JOBS = "/apis/ray.io/v1/namespaces/night/rayjobs"


class Server(ThreadingHTTPServer):
    """Gives the answers in `states`, one a question; None is an answer that never comes right."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.created: list[dict[str, Any]] = []
        self.states: list[dict[str, str] | None] = []
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.server.created.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._answer(201, {"metadata": {"name": "headlight-x7"}}, JOBS)

    def do_GET(self) -> None:
        state = self.server.states.pop(0)
        self._answer(503 if state is None else 200, {"status": state}, f"{JOBS}/headlight-x7")

    def _answer(self, code: int, body: dict[str, Any], path: str) -> None:
        allowed = self.headers["Authorization"] == "Bearer secret" and self.path == path
        self.send_response(code if allowed else 403)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def account(tmp_path: Path) -> Path:
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "namespace").write_text("night")
    return tmp_path


def launch(server: Server, account: Path) -> subprocess.CompletedProcess[str]:
    options = ["--server", server.address, "--account", str(account), "--interval", "0.01", "--entrypoint", "true"]
    command = [sys.executable, str(FOLDER / "launch.py"), str(FOLDER / "rayjob.yaml"), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def failed(code: int) -> str:
    """What Ray says of a job whose log speaks of another code."""
    log = "last available logs (truncated to 20,000 chars):\nJob entrypoint command failed with exit code 3"
    return f"Job entrypoint command failed with exit code {code}, {log}"


@pytest.mark.parametrize(
    ("verdict", "message", "code"),
    [
        ("SUCCEEDED", "Job finished successfully.", 0),
        ("FAILED", failed(1), 1),
        ("FAILED", failed(2), 2),
        ("FAILED", failed(5), 5),
        ("FAILED", failed(137), 1),
        ("FAILED", failed(-9), 1),
        ("FAILED", "The node was lost; Job entrypoint command failed with exit code 2", 1),
        ("STOPPED", "", 1),
    ],
)
def test_the_exit_code_is_that_of_the_entrypoint(
    server: Server, account: Path, verdict: str, message: str, code: int
) -> None:
    running = {"jobDeploymentStatus": "Running"}
    ended = {"jobDeploymentStatus": "Complete", "jobStatus": verdict, "message": message}
    server.states = [{}, running, None, running, ended]
    done = launch(server, account)
    assert done.returncode == code, done.stderr
    (job,) = server.created
    assert job["kind"] == "RayJob"
    assert job["spec"]["entrypoint"] == "true"
    assert done.stdout.splitlines()[:2] == ["headlight-x7: created", "headlight-x7: Running"]
    assert server.states == []


def test_ray_still_says_it_so() -> None:
    """The installed Ray, which is the one of the images: the message, and the code beside it."""
    supervisor = files("ray").joinpath("dashboard/modules/job/job_supervisor.py").read_text()
    written = " ".join(re.sub(r'"\s+f?"', "", supervisor).split())
    assert "Job entrypoint command failed with exit code {return_code}, last" in written
    assert "driver_exit_code=return_code" in supervisor


def test_a_job_that_never_started_is_a_failure_with_its_reason(server: Server, account: Path) -> None:
    server.states = [{"jobDeploymentStatus": "Failed", "message": "no node has a GPU"}]
    done = launch(server, account)
    assert done.returncode == 1
    assert "no node has a GPU" in done.stdout


def test_an_account_without_rights_fails_at_once_and_its_token_is_not_shown(server: Server, account: Path) -> None:
    (account / "token").write_text("unheard-of")
    done = launch(server, account)
    assert done.returncode == 1
    assert "403" in done.stderr
    assert "unheard-of" not in done.stdout + done.stderr
