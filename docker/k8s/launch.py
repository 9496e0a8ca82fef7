"""Creates a RayJob from a file, waits for its end, and exits with the code of its entrypoint.

1 stands for all other ends. `ray job submit` makes 1 of every failure; Ray's record of the job has the code, and its
message, which the operator copies into the RayJob's status, begins with it.

Runs in a pod whose ServiceAccount may create and get RayJobs; needs nothing but Python and PyYAML.
"""

from __future__ import annotations

import argparse
import json
import re
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import yaml

ENDED = ("Complete", "Failed")
CODES = range(1, 6)  # Headlight's own
FAILED_WITH = re.compile(r"Job entrypoint command failed with exit code (\d+)\b")  # Ray 2.60, job_supervisor.py
PATIENCE = 20  # questions in a row that may stay without an answer


class Jobs:
    """The RayJobs of the pod's namespace. The token is read for every request, because Kubernetes renews it."""

    def __init__(self, server: str, account: Path):
        namespace = (account / "namespace").read_text().strip()
        self.address = f"{server}/apis/ray.io/v1/namespaces/{namespace}/rayjobs"
        self.account = account
        self.context = ssl.create_default_context(cafile=account / "ca.crt") if server.startswith("https") else None

    def create(self, job: dict[str, Any]) -> str:
        """Create a job; its name."""
        return str(self._ask(self.address, json.dumps(job).encode())["metadata"]["name"])

    def status(self, name: str) -> dict[str, Any]:
        """What the operator says of it; empty before it says anything."""
        return dict(self._ask(f"{self.address}/{name}").get("status") or {})

    def _ask(self, address: str, body: bytes | None = None) -> dict[str, Any]:
        token = (self.account / "token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(address, body, headers)
        with urllib.request.urlopen(request, timeout=30, context=self.context) as answer:
            return dict(json.load(answer))


def wait(jobs: Jobs, name: str, interval: float) -> dict[str, Any]:
    """Ask until the job has ended; an API server that is away for a while is asked again."""
    state, unanswered = None, 0
    while True:
        try:
            status, unanswered = jobs.status(name), 0
        except OSError as error:  # covers refused connections, timeouts and HTTP errors
            unanswered += 1
            if unanswered > PATIENCE or (isinstance(error, urllib.error.HTTPError) and error.code in (401, 403, 404)):
                raise
            status = {}
        if status and status.get("jobDeploymentStatus") != state:
            state = status.get("jobDeploymentStatus")
            print(f"{name}: {state}", flush=True)
        if state in ENDED:
            return status
        time.sleep(interval)


def exit_code(status: dict[str, Any]) -> int:
    """What the entrypoint ended with."""
    if status.get("jobStatus") == "SUCCEEDED":
        return 0
    said = FAILED_WITH.match(status.get("message") or "")  # what follows is the log, in which anything may stand
    return int(said[1]) if said and int(said[1]) in CODES else 1


def main() -> int:
    """Read the arguments, create, wait."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", type=Path, help="a file with one RayJob")
    parser.add_argument("--entrypoint", help="instead of the one in the file")
    parser.add_argument("--server", default="https://kubernetes.default.svc")
    parser.add_argument("--account", type=Path, default=Path("/var/run/secrets/kubernetes.io/serviceaccount"))
    parser.add_argument("--interval", type=float, default=15.0, help="seconds between two questions")
    arguments = parser.parse_args()
    job = yaml.safe_load(arguments.job.read_text())
    if arguments.entrypoint:
        job["spec"]["entrypoint"] = arguments.entrypoint
    jobs = Jobs(arguments.server, arguments.account)
    name = jobs.create(job)
    print(f"{name}: created", flush=True)
    status = wait(jobs, name, arguments.interval)
    print(f"{name}: {status.get('jobStatus')} {status.get('message') or ''}".rstrip())
    return exit_code(status)


if __name__ == "__main__":
    sys.exit(main())
