"""Where the record goes: which MLflow, whether it answers, and how a person gets to see it.

Precedence: `tracking.uri`, then MLFLOW_TRACKING_URI, then a database in `paths.root`. `tracking.experiment`, then
MLFLOW_EXPERIMENT_NAME, then "headlight". Tokens come from MLFLOW_TRACKING_TOKEN only.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import shlex
import shutil
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from attribution.errors import HeadlightError, InputError
from pipeline.config import TrackingConfig
from pipeline.redact import redacted, without_credentials

DATABASE, ARTIFACTS, EXPERIMENT = "mlflow.db", "mlartifacts", "headlight"
PORT = 5000
_ANSWER_WITHIN_S = 4.0
_SQLITE, _SQLITE_HEADER = "sqlite:///", b"SQLite format 3\0"
_SCHEMES = ("http://", "https://", _SQLITE, "postgresql", "mysql", "mssql", "databricks")


class Unreachable(HeadlightError):
    """The record cannot be written now; later it may."""


@dataclass(frozen=True)
class Destination:
    """An MLflow store and the experiment in it. `artifacts` is where a store without a server keeps files."""

    uri: str
    experiment: str
    artifacts: Path

    @property
    def is_server(self) -> bool:
        """Whether an MLflow server answers there."""
        return self.uri.startswith(("http://", "https://"))

    @property
    def database(self) -> Path | None:
        """The file of a sqlite store."""
        return Path(self.uri.removeprefix(_SQLITE)) if self.uri.startswith(_SQLITE) else None

    @property
    def shown(self) -> str:
        """The address without credentials, fit for logs and manifests."""
        return without_credentials(self.uri)


def destination(config: TrackingConfig, root: Path) -> Destination | None:
    """Where `config` keeps the record, None where nowhere; InputError on an address that cannot be one."""
    if config.store in ("none", "offline"):
        return None
    uri = config.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri and config.store == "server":
        raise InputError(
            "conf error: tracking.uri is not set. Give it, or MLFLOW_TRACKING_URI, the server's http address."
        )
    uri = _absolute(uri or f"{_SQLITE}{root.absolute() / DATABASE}")
    return Destination(uri.rstrip("/"), experiment_name(config), root.absolute() / ARTIFACTS)


def experiment_name(config: TrackingConfig) -> str:
    """The MLflow experiment the record belongs to."""
    return config.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT


def check(target: Destination) -> None:
    """InputError naming `tracking.uri` unless the server answers, or the database's folder can be written."""
    try:
        probe(target)
    except Unreachable as error:
        raise InputError(
            f"conf error: tracking.uri={error}. Start it, correct the address, or use tracking=offline, "
            "tracking=sqlite or tracking=none."
        ) from None
    if target.database:
        _check_folder(target, target.database.parent)
        _check_database(target, target.database)


def ui_address(target: Destination, experiment_id: str, run_id: str | None = None, port: int = PORT) -> str:
    """The page of a run, or of the experiment's runs; without a server also the command that serves it."""
    page = f"/#/experiments/{experiment_id}/runs{f'/{run_id}' if run_id else ''}?workflowType=machine_learning"
    if target.is_server:
        return target.shown + page
    mlflow = ["mlflow"] if shutil.which("mlflow") else [sys.executable, "-m", "mlflow"]
    store = ["--backend-store-uri", target.uri] if target.shown == target.uri else []
    command = shlex.join([*mlflow, "ui", *store, "--port", str(port)])
    given = "" if store else f", with the address of {target.shown} and its password in MLFLOW_BACKEND_STORE_URI"
    return f"http://127.0.0.1:{port}{page} after MLFLOW_DISABLE_TELEMETRY=true {command}{given}"


def _absolute(uri: str) -> str:
    if not uri.startswith(_SCHEMES):
        raise InputError(
            f"conf error: tracking.uri={without_credentials(uri)} is not an address MLflow can keep runs at. "
            f"Use http://HOST:PORT, {_SQLITE}FILE.db or another database."
        )
    return _SQLITE + str(Path(uri.removeprefix(_SQLITE)).absolute()) if uri.startswith(_SQLITE) else uri


def _check_folder(target: Destination, folder: Path) -> None:
    """The folder, or the nearest one above it that exists, must take files; nothing is made yet."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(f"conf error: tracking.uri={target.shown} cannot be written: {existing} takes no files")


def _check_database(target: Destination, path: Path) -> None:
    """A file that is something else would be tried for minutes."""
    if path.is_file() and path.stat().st_size and _starts(path) != _SQLITE_HEADER:
        raise InputError(f"conf error: tracking.uri={target.shown} is a file, but no SQLite database; name another.")


def _starts(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(_SQLITE_HEADER))


def probe(target: Destination) -> None:
    """Ask a server for one experiment: that proves the address, the kind of server and the credentials at once.

    Raises `Unreachable` where it may answer later, InputError where it never will; anything but a server is not asked.
    """
    if not target.is_server:
        return
    question = f"{target.uri}/api/2.0/mlflow/experiments/search?max_results=1"
    try:
        request = urllib.request.Request(without_credentials(question), headers=_authorization(target.uri))
        with urllib.request.urlopen(request, timeout=_ANSWER_WITHIN_S) as answer:
            json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise Unreachable(f"{target.shown} answers HTTP {error.code}") from None
        advice = "check MLFLOW_TRACKING_TOKEN" if error.code in (401, 403) else "is it an MLflow server?"
        raise InputError(f"conf error: tracking.uri={target.shown} answers HTTP {error.code}; {advice}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise Unreachable(f"{target.shown} is not reachable as an MLflow server ({redacted(str(reason))})") from None


def _authorization(uri: str) -> dict[str, str]:
    """The header MLflow itself would send: credentials in the address, then user and password, then the token."""
    written, environment = re.search(r"://([^/]*)@", uri), os.environ
    pair = f"{environment.get('MLFLOW_TRACKING_USERNAME', '')}:{environment.get('MLFLOW_TRACKING_PASSWORD', '')}"
    pair = unquote(written[1]) if written else pair
    if pair != ":":
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    token = environment.get("MLFLOW_TRACKING_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}
