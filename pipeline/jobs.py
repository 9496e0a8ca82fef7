"""Jobs on a Ray cluster, by its jobs server: sent, followed and stopped, with the exit code of the command itself."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from attribution.errors import HeadlightError, InputError
from pipeline.execution.ray_cluster import set_environment, use_token

DONE, FAILED, STOPPED = 0, 1, 5
CODES = range(1, 6)  # those of our own commands
DEFAULT_ADDRESS = "http://127.0.0.1:8265"
STOP_WAIT_S = 60  # between SIGTERM and SIGKILL; Ray's own 3 s are too short to save anything
LOOK_EVERY_S = 0.5
LOST_FOR_S = 60.0  # so long a connection is tried again
_REACH_TIMEOUT_S = 10.0
_NOT_READY = "No available agent"  # what a head node answers while it starts
_CHATTY = ("ray._private.runtime_env.packaging", "ray.dashboard.modules.job.sdk", "ray.dashboard.modules.dashboard_sdk")


def jobs_address(given: str | None = None) -> str:
    """Where jobs are sent: the address given, else RAY_API_SERVER_ADDRESS or RAY_ADDRESS, else this machine."""
    ray_address = os.environ.get("RAY_ADDRESS", "")
    named = given or os.environ.get("RAY_API_SERVER_ADDRESS") or (ray_address if "://" in ray_address else None)
    return (named or DEFAULT_ADDRESS).rstrip("/")


class Jobs:
    """The jobs of one cluster. Raises InputError where its server does not answer or wants another token."""

    def __init__(self, address: str) -> None:
        self.address = address
        _reach(address)
        before = use_token() | set_environment({"RAY_API_SERVER_ADDRESS": address})  # RAY_ADDRESS would come first
        try:
            self._client = JobSubmissionClient(address)
        except (AuthenticationError, ConnectionError, RuntimeError, ValueError) as error:
            reason = f"{_line(error).split('. ')[0]}; if it asks for a token, set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
            raise InputError(f"conf error: --address {address}: {reason}") from error
        finally:
            set_environment(before)
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)

    def send(self, command: Sequence[str], name: str, folder: Path | None, environment: Mapping[str, str]) -> str:
        """Start a command on the head node, in a copy of `folder`; returns the job's id."""
        variables = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S), **environment}
        runtime: dict[str, Any] = {"env_vars": variables} | ({"working_dir": str(folder)} if folder else {})
        job = {
            "entrypoint": f"exec {shlex.join(command)}",  # without a shell in between, which would change exit codes
            "submission_id": f"{name}-{os.urandom(3).hex()}",
            "runtime_env": runtime,
        }
        deadline = time.monotonic() + LOST_FOR_S
        while True:
            try:
                return str(self._client.submit_job(**job))
            except (RuntimeError, OSError) as error:
                if _NOT_READY not in str(error) or time.monotonic() > deadline:
                    raise HeadlightError(f"{self.address} does not take the job: {_line(error)}") from error
                time.sleep(LOOK_EVERY_S)

    def follow(self, job: str, write: Callable[[str], object]) -> int:
        """Pass on what a job prints until it ends; returns its exit code."""
        self._details(job)
        asyncio.run(self._tail(job, write))
        return self._exit_code(self._ended(job), write)

    def stop(self, job: str) -> str:
        """Have a job save what it has and end; returns what became of it."""
        self._details(job)
        self._client.stop_job(job)
        return str(self._ended(job).status.value)

    async def _tail(self, job: str, write: Callable[[str], object]) -> None:
        """The log from its beginning, over as many connections as it takes; nothing is passed on twice."""
        shown, lost_since = 0, None
        while True:
            skip = shown
            try:
                async for text in self._client.tail_job_logs(job):
                    fresh = text[skip:]
                    skip = max(0, skip - len(text))
                    shown, lost_since = shown + len(fresh), None
                    write(fresh)
                return
            except (RuntimeError, aiohttp.ClientError, OSError) as error:
                lost_since = lost_since or time.monotonic()
                if time.monotonic() - lost_since > LOST_FOR_S:
                    raise HeadlightError(f"the jobs server is lost ({_line(error)}); {self.advice(job)}") from error
                await asyncio.sleep(LOOK_EVERY_S)

    def _ended(self, job: str) -> JobDetails:
        while not (details := self._details(job)).status.is_terminal():
            time.sleep(LOOK_EVERY_S)
        return details

    def _details(self, job: str) -> JobDetails:
        try:
            return self._client.get_job_info(job)
        except RuntimeError as error:
            raise InputError(f"conf error: job {job} is not known at {self.address}: {_line(error)}") from error

    def _exit_code(self, details: JobDetails, write: Callable[[str], object]) -> int:
        """Ray's own command flattens every failure to 1; the record of the job has the code of its process."""
        if details.status == JobStatus.SUCCEEDED:
            return DONE
        if details.status == JobStatus.STOPPED:
            return STOPPED
        if details.driver_exit_code in CODES:
            return int(details.driver_exit_code)
        write(f"the job failed: {(details.message or '').partition(', last available logs')[0]}\n")
        return FAILED

    def advice(self, job: str) -> str:
        """How to go on with a job that nobody follows."""
        there = f"--address {self.address}"
        return f"the job goes on: headlight submit {there} --follow {job}, or --stop {job}"


def _reach(address: str) -> None:
    """Fail within seconds where nobody listens; the client itself has no time limit."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"conf error: --address {address} is not an address of a jobs server; write http://host:8265")
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname, port), timeout=_REACH_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise InputError(
            f"conf error: --address {address}: no jobs server answers ({error}); it is part of the dashboard of the "
            "head node (ray start --head), on port 8265 of its own loopback unless --dashboard-host says otherwise"
        ) from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
