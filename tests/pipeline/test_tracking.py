from __future__ import annotations

import json
import logging
import math
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from attribution.errors import InputError
from pipeline.config import TrackingConfig
from pipeline.tracking import Tracker, destination, ui_address
from pipeline.tracking.connection import _reported
from pipeline.tracking.destination import Unreachable
from pipeline.tracking.payload import MAX_PARAMETERS, MAX_SCALARS, parameters, scalars

VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_TOKEN", "MLFLOW_RUN_ID")


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def root(mlflow_database: Path, tmp_path: Path) -> Path:
    shutil.copy(mlflow_database, tmp_path / "mlflow.db")
    return tmp_path


@pytest.fixture
def run_folder(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy: recording a run writes into its manifest where the record is."""
    return Path(shutil.copytree(run_folder, tmp_path_factory.mktemp("run") / "demo"))


def track(config: TrackingConfig, root: Path, key: str = "key") -> Tracker:
    return Tracker(config, root=root, run_key=key, name="demo")


def record(root: Path, folder: Path, key: str = "key") -> Tracker:
    with track(TrackingConfig("sqlite"), root, key) as tracker:
        tracker.start()
        tracker.log(folder)
    return tracker


def client(root: Path):
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{root / 'mlflow.db'}")


def children(root: Path, tracker: Tracker) -> dict:
    condition = f"tags.`mlflow.parentRunId` = '{tracker.run_id}'"
    return {run.info.run_name: run for run in client(root).search_runs([tracker.experiment_id], condition)}


def test_one_parent_and_a_child_per_method(root: Path, run_folder: Path) -> None:
    tracker = record(root, run_folder)
    parent, found = client(root).get_run(tracker.run_id), children(root, tracker)
    methods = json.loads((run_folder / "manifest.json").read_text())["methods"]
    assert parent.info.status == "FINISHED"
    assert parent.data.params["dataset.source"] == "reviews"
    assert parent.data.metrics["accuracy"] == 0.9
    assert parent.data.tags["mlflow.note.content"].startswith("mask_lrp has the best AOPC")
    assert parent.inputs.dataset_inputs[0].dataset.name == "reviews"
    assert set(found) == set(methods)
    assert found["raw_attention"].info.status == "FINISHED"
    assert found["raw_attention"].data.params["class_blind"] == "True"
    assert found["mask_lrp_random_0"].data.tags["headlight.role"] == "control"
    assert found["mask_lrp"].data.tags["headlight.role"] == "method"
    assert all(len(run.data.metrics) <= MAX_SCALARS for run in found.values())


def test_values_come_with_intervals_and_lifts(root: Path, run_folder: Path) -> None:
    metrics = children(root, record(root, run_folder))["mask_lrp"].data.metrics
    assert metrics["aopc/low"] < metrics["aopc"] < metrics["aopc/high"]
    assert metrics["aopc/over_random"] > 0
    assert "aopc/over_mask_lrp_random_0" in metrics


def test_the_curve_is_a_stepped_metric(root: Path, run_folder: Path) -> None:
    child = children(root, record(root, run_folder))["mask_lrp"]
    points = client(root).get_metric_history(child.info.run_id, "curve/aopc")
    assert [point.step for point in points] == [0, 11, 22, 33, 44, 56, 67]
    assert points[0].value > points[-1].value


def test_files_are_kept_under_the_root(root: Path, run_folder: Path) -> None:
    tracker = record(root, run_folder)
    names = {file.path for file in client(root).list_artifacts(tracker.run_id)}
    assert {"manifest.json", "config.yaml", "attributions.parquet", "metrics.parquet"} <= names
    assert client(root).get_run(tracker.run_id).info.artifact_uri.startswith((root / "mlartifacts").as_uri())


def test_texts_stay_out_of_the_record_where_asked(root: Path, run_folder: Path) -> None:
    with Tracker(TrackingConfig(store="sqlite"), root=root, run_key="quiet", name="quiet") as tracker:
        tracker.start()
        tracker.log(run_folder, texts=False)
    names = {file.path for file in client(root).list_artifacts(tracker.run_id)}
    assert "attributions.parquet" in names
    assert "examples.parquet" not in names


def test_a_continued_run_goes_on_in_the_same_record(root: Path, run_folder: Path) -> None:
    first, second = record(root, run_folder), record(root, run_folder)
    other = record(root, run_folder, key="other")
    assert first.run_id == second.run_id != other.run_id
    found = children(root, second)
    assert len(found) == 8
    assert len(client(root).get_metric_history(found["mask_lrp"].info.run_id, "aopc")) == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED"), (GeneratorExit, "KILLED")],
)
def test_the_status_says_how_it_ended(root: Path, error: type[BaseException], status: str) -> None:
    with pytest.raises(error), track(TrackingConfig("sqlite"), root) as tracker:  # noqa: PT012
        tracker.start()
        assert client(root).get_run(tracker.run_id).info.status == "RUNNING"
        raise error
    assert client(root).get_run(tracker.run_id).info.status == status


def test_mlflow_run_id_is_ignored(root: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    tracker = record(root, run_folder)
    assert tracker.run_id != "0" * 32
    assert len(children(root, tracker)) == 8


@pytest.mark.slow
def test_a_new_database_is_made_quietly_and_whole(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with track(TrackingConfig("sqlite"), tmp_path) as tracker:
        assert list(tmp_path.iterdir()) == []
        tracker.start()
    assert capfd.readouterr().err == ""
    assert logging.getLogger("alembic").level == logging.WARNING
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "mlflow.lock"}


def test_tracking_none_records_nothing(tmp_path: Path, run_folder: Path) -> None:
    with track(TrackingConfig("none"), tmp_path) as tracker:
        tracker.start()
        tracker.log(run_folder)
    assert set(tracker.record().values()) == {None}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("config", "environment", "uri", "experiment"),
    [
        (TrackingConfig("sqlite"), {}, "sqlite:///ROOT/mlflow.db", "headlight"),
        (TrackingConfig("sqlite"), {"MLFLOW_TRACKING_URI": "http://h:1/"}, "http://h:1", "headlight"),
        (TrackingConfig("server", uri="http://c:2"), {"MLFLOW_TRACKING_URI": "http://h:1"}, "http://c:2", "headlight"),
        (TrackingConfig("sqlite"), {"MLFLOW_EXPERIMENT_NAME": "e"}, "sqlite:///ROOT/mlflow.db", "e"),
        (TrackingConfig("sqlite", experiment="c"), {"MLFLOW_EXPERIMENT_NAME": "e"}, "sqlite:///ROOT/mlflow.db", "c"),
    ],
)
def test_configuration_precedes_environment_precedes_default(
    config: TrackingConfig,
    environment: dict[str, str],
    uri: str,
    experiment: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = destination(config, tmp_path)
    assert found is not None
    assert (found.uri, found.experiment) == (uri.replace("ROOT", str(tmp_path)), experiment)


@pytest.mark.parametrize("config", [TrackingConfig("server"), TrackingConfig("sqlite", uri="runs.db")])
def test_an_address_that_cannot_be_one_is_refused(config: TrackingConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"conf error: tracking\.uri"):
        destination(config, tmp_path)


def test_a_place_that_takes_no_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"tracking\.uri=sqlite:.* cannot be written"):
        track(TrackingConfig("sqlite"), tmp_path / "file" / "outputs").prepare()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database" * 100)
    with pytest.raises(InputError, match=r"conf error: tracking\.uri=sqlite:.*/mlflow\.db is a file, but no SQLite"):
        track(TrackingConfig("sqlite"), tmp_path).prepare()


def test_a_server_that_does_not_answer_is_refused_at_once(tmp_path: Path) -> None:
    tracker, started = track(TrackingConfig("server", uri="http://127.0.0.1:9"), tmp_path), time.perf_counter()
    with pytest.raises(InputError, match=r"tracking\.uri=http://127\.0\.0\.1:9 is not reachable"):
        tracker.prepare()
    assert time.perf_counter() - started < 5
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def stranger() -> Iterator[tuple[str, list[str | None]]]:
    """A web server that asks for a token and knows nothing of MLflow; its address and the tokens it was shown."""
    tokens: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tokens.append(self.headers.get("Authorization"))
            self.send_response(404 if tokens[-1] == "Bearer secret" else 401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", tokens
    server.shutdown()


def test_a_refused_token_and_another_kind_of_server_are_told_apart(
    stranger: tuple[str, list[str | None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, tokens = stranger
    with pytest.raises(InputError, match=r"answers HTTP 401; check MLFLOW_TRACKING_TOKEN"):
        track(TrackingConfig("server", uri=address), tmp_path).prepare()
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    with pytest.raises(InputError, match="answers HTTP 404; is it an MLflow server"):
        track(TrackingConfig("server", uri=address), tmp_path).prepare()
    assert tokens == [None, "Bearer secret"]


def test_credentials_in_an_address_are_sent_but_never_shown(
    stranger: tuple[str, list[str | None]], tmp_path: Path
) -> None:
    address, tokens = stranger
    tracker = track(TrackingConfig("server", uri=address.replace("://", "://me:pass%21@")), tmp_path)
    with pytest.raises(InputError) as caught:
        tracker.prepare()
    assert "pass" not in str(caught.value) + str(tracker.record())
    assert tokens == ["Basic bWU6cGFzcyE="]


def test_scalars_are_finite_and_few() -> None:
    found = scalars([("aopc", math.nan), ("aopc/low", math.inf), ("n", 3), ("none", None), ("a=b", 1.0)])
    assert found == {"n": 3.0, "a_b": 1.0, "nonfinite/aopc": 2.0}
    assert len(scalars((f"m{i}", 1.0) for i in range(200))) == MAX_SCALARS


def test_parameters_are_flat_cut_and_few() -> None:
    found = parameters({"a": {"b": 1, "none": None}, "long": "x" * 9000, **{f"k{i}": i for i in range(200)}})
    assert found["a.b"] == "1"
    assert "a.none" not in found
    assert len(found["long"]) == 500
    assert len(found) == MAX_PARAMETERS


def test_the_address_of_a_run_can_be_opened(root: Path) -> None:
    with track(TrackingConfig("sqlite"), root) as tracker:
        tracker.start()
    assert f"/#/experiments/{tracker.experiment_id}/runs?workflowType=machine_learning" in str(tracker.address())
    assert f"ui --backend-store-uri sqlite:///{root}/mlflow.db --port 5000" in str(tracker.address())
    server = destination(TrackingConfig("server", uri="http://u:p@host:1"), root)
    assert server is not None
    assert ui_address(server, "7", "abc") == "http://host:1/#/experiments/7/runs/abc?workflowType=machine_learning"


def test_the_address_of_a_run_in_a_database_shows_no_password(tmp_path: Path) -> None:
    target = destination(
        TrackingConfig("server", uri="postgresql+psycopg2://me:pa/ss@host/db?sslpassword=word"), tmp_path
    )
    assert target is not None
    shown = ui_address(target, "7")
    assert "postgresql+psycopg2://host/db?sslpassword=***" in shown
    assert "MLFLOW_BACKEND_STORE_URI" in shown
    assert not [part for part in ("pa/ss", "word=word", "--backend-store-uri") if part in shown]


@pytest.mark.parametrize("uri", ["oracle://me:pass@host/db", "ftp://me:pass@host"])
def test_an_address_that_is_refused_shows_no_password(tmp_path: Path, uri: str) -> None:
    with pytest.raises(InputError, match="is not an address MLflow can keep runs at") as caught:
        destination(TrackingConfig("server", uri=uri), tmp_path)
    assert "pass" not in str(caught.value)


def test_an_error_of_the_store_shows_no_password(tmp_path: Path) -> None:
    target = destination(TrackingConfig("server", uri="postgresql://me:pa/ss@host/db"), tmp_path)
    assert target is not None
    with pytest.raises(Unreachable) as caught, _reported(target):
        raise OSError("no route from postgresql://me:pa/ss@host/db")
    assert str(caught.value).endswith("did not take the record: no route from postgresql://***@host/db")


@pytest.mark.slow
def test_four_processes_may_meet_a_new_database_at_once(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from pipeline.config import TrackingConfig
from pipeline.tracking import Tracker

with Tracker(TrackingConfig("sqlite"), root=Path(sys.argv[1]), run_key=sys.argv[2], name="n") as tracker:
    tracker.start()
"""
    started = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), key]) for key in "abcd"]
    assert [process.wait(timeout=300) for process in started] == [0] * 4
