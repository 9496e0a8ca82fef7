"""The record on a real `mlflow server`, over SQLite and over PostgreSQL, with artifacts through its proxy."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow_servers import MlflowServer, mlflow_server, postgres

from pipeline.cli import main
from pipeline.config import TrackingConfig
from pipeline.keys import file_digest
from pipeline.tracking import SweepTracker, Tracker

pytestmark = pytest.mark.slow
METHODS = ("mask_lrp", "random")
VARIABLES = ("URI", "TOKEN", "USERNAME", "PASSWORD")


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "sqlite":
        with mlflow_server(f"sqlite:///{folder / 'mlflow.db'}", folder) as started:
            yield started
    else:
        with postgres() as address, mlflow_server(address, folder) as started:
            yield started


@pytest.fixture
def folder(make_run: Callable[..., Path]) -> Path:
    path = make_run("demo", n=4, methods=METHODS)
    change(path, tracking={})
    return path


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


def change(folder: Path, **fields: Any) -> None:
    (folder / "manifest.json").write_text(json.dumps(manifest(folder) | fields))


def tracker_of(folder: Path, uri: str, experiment: str, wait_s: float = 0) -> Tracker:
    config = TrackingConfig("server", uri=uri, experiment=experiment, wait_s=wait_s)
    return Tracker(config, root=folder.parent, run_key=manifest(folder)["run_key"], name="demo")


def record(folder: Path, uri: str, experiment: str, wait_s: float = 0) -> Tracker:
    with tracker_of(folder, uri, experiment, wait_s) as tracker:
        tracker.start()
        tracker.log(folder)
    return tracker


def recorded(server: MlflowServer, experiment: str) -> list[tuple[Any, ...]]:
    """All that the server holds of an experiment, but for ids and the times of starting."""
    from mlflow import MlflowClient

    client = MlflowClient(server.uri)
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    names = {run.info.run_id: run.info.run_name for run in runs}
    told = []
    for run in runs:
        points = [point for key in run.data.metrics for point in client.get_metric_history(run.info.run_id, key)]
        about = (names.get(run.data.tags.get("mlflow.parentRunId")) or "", run.info.run_name, run.info.status)
        values = sorted((point.key, point.step, point.value, point.timestamp) for point in points)
        files = sorted(file.path for file in client.list_artifacts(run.info.run_id))
        told.append((*about, run.info.end_time, values, run.data.params, files, len(run.inputs.dataset_inputs)))
    return sorted(told, key=lambda run: run[:2])


def test_a_run_is_recorded_whole_and_its_files_come_back(
    server: MlflowServer, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    tracker = record(folder, server.uri, "whole")
    assert capsys.readouterr() == ("", "")
    parent, child, control = recorded(server, "whole")
    assert [run[1:3] for run in (parent, child, control)] == [
        ("demo", "FINISHED"), ("mask_lrp", "FINISHED"), ("random", "FINISHED"),
    ]  # fmt: skip
    assert parent[-1] == 1
    assert any(key == "curve/aopc" and step == 67 for key, step, *_ in child[4])
    client, back = MlflowClient(server.uri), tmp_path / "back"
    back.mkdir()
    for path in sorted(path for path in folder.iterdir() if path.suffix in (".parquet", ".json", ".yaml")):
        client.download_artifacts(str(tracker.run_id), path.name, str(back))
        assert file_digest(back / path.name) == file_digest(path)


def test_a_continued_run_has_not_ended(server: MlflowServer, folder: Path) -> None:
    from mlflow import MlflowClient

    record(folder, server.uri, "continued")
    with tracker_of(folder, server.uri, "continued") as tracker:
        tracker.start()
        info = MlflowClient(server.uri).get_run(str(tracker.run_id)).info
        assert (info.status, info.end_time) == ("RUNNING", None)
        tracker.log(folder)
    assert [run[2] for run in recorded(server, "continued")] == ["FINISHED"] * 3


def test_a_server_that_dies_between_children_loses_nothing(
    server: MlflowServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "config.yaml").write_text("tracking: {store: server, experiment: died}\n")
    record(folder, server.uri, "undisturbed")
    send_child = Tracker._send_child

    def dying(self: Tracker, *given: Any) -> None:
        send_child(self, *given)
        server.kill()

    monkeypatch.setattr(Tracker, "_send_child", dying)
    tracker = record(folder, server.uri, "died")
    monkeypatch.undo()
    assert "is not reachable" in str(tracker.held) or "did not take" in str(tracker.held)
    assert main(["sync", str(folder)]) == 4
    server.start()
    assert len(recorded(server, "died")) == 2
    assert main(["sync", str(folder)]) == 0
    assert main(["sync", str(folder)]) == 0
    assert recorded(server, "died") == recorded(server, "undisturbed")


def test_a_server_that_is_started_again_in_time_is_waited_for(
    server: MlflowServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, restarts = Tracker._send, []

    def restarted(self: Tracker, *given: Any) -> None:
        if not restarts:
            server.kill()
            restarts.append(threading.Thread(target=server.start))
            restarts[0].start()
        send(self, *given)

    monkeypatch.setattr(Tracker, "_send", restarted)
    tracker = record(folder, server.uri, "restarted", wait_s=300)
    restarts[0].join()
    assert tracker.held is None
    assert len(recorded(server, "restarted")) == 3


@pytest.fixture
def guarded(server: MlflowServer) -> Iterator[tuple[str, set[str | None]]]:
    """A proxy that lets only `Bearer secret` and `Basic me:pass` through; its address, and what it was shown."""
    shown: set[str | None] = set()

    class Proxy(BaseHTTPRequestHandler):
        def answer(self) -> None:
            shown.add(self.headers.get("Authorization"))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
            if self.headers.get("Authorization") not in ("Bearer secret", "Basic bWU6cGFzcw=="):
                return self.reply(401, b"{}")
            kept = {name: value for name, value in self.headers.items() if name in ("Content-Type",)}
            request = urllib.request.Request(server.uri + self.path, body, kept, method=self.command)
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return self.reply(answer.status, answer.read())
            except urllib.error.HTTPError as error:
                return self.reply(error.code, error.read())

        do_GET = do_POST = do_PUT = do_PATCH = answer  # noqa: N815

        def reply(self, code: int, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{proxy.server_port}", shown
    proxy.shutdown()
    proxy.server_close()


@pytest.mark.parametrize(
    ("variables", "header"),
    [({"TOKEN": "secret"}, "Bearer secret"), ({"USERNAME": "me", "PASSWORD": "pass"}, "Basic bWU6cGFzcw==")],
)
def test_credentials_are_sent_with_everything(
    guarded: tuple[str, set[str | None]],
    server: MlflowServer,
    folder: Path,
    variables: dict[str, str],
    header: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, shown = guarded
    for name, value in variables.items():
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    record(folder, address, f"guarded {header[:5]}")
    assert shown == {header}
    assert len(recorded(server, f"guarded {header[:5]}")) == 3
    assert not [path for path in folder.iterdir() if path.suffix == ".json" and "secret" in path.read_text()]


def test_four_processes_may_make_the_same_experiment(server: MlflowServer, tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from pipeline.config import TrackingConfig
from pipeline.tracking import Tracker

config = TrackingConfig("server", uri=sys.argv[1], experiment="race")
with Tracker(config, root=Path(sys.argv[2]), run_key=sys.argv[3], name="n") as tracker:
    tracker.start()
"""
    command = [sys.executable, "-c", code, server.uri, str(tmp_path)]
    started = [subprocess.Popen([*command, key]) for key in "abcd"]
    assert [process.wait(timeout=300) for process in started] == [0] * 4
    assert len(recorded(server, "race")) == 4


def test_a_sweep_and_its_table(server: MlflowServer, folder: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    config = TrackingConfig("server", uri=server.uri, experiment="sweep")
    with SweepTracker(config, root=tmp_path, sweep_id="s", name="sweep") as sweep:
        sweep.start()
        with sweep.job(run_key="k", name="job") as job:
            job.start()
            job.log(folder)
        sweep.log(tmp_path, numbers={"jobs": 1}, table=[{"method": "mask_lrp", "aopc": 0.5}])
    assert [run[:3] for run in recorded(server, "sweep")] == [("", "sweep", "FINISHED"), ("sweep", "job", "FINISHED")]
    client = MlflowClient(server.uri)
    tag = client.get_run(str(sweep.run_id)).data.tags["mlflow.loggedArtifacts"]
    assert json.loads(tag) == [{"path": "table.json", "type": "table"}]
    (tmp_path / "back").mkdir()
    table = client.download_artifacts(str(sweep.run_id), "table.json", str(tmp_path / "back"))
    assert pd.read_json(table, orient="split").aopc.tolist() == [0.5]
