"""A record that cannot be sent waits in the run folder, and sending it later gives what an undisturbed run gives."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from attribution.errors import InputError
from pipeline.cli import main
from pipeline.config import TrackingConfig
from pipeline.tracking import SweepTracker, Tracker, sync
from pipeline.tracking.experiment import Experiment
from pipeline.tracking.payload import MAX_SCALARS

METHODS = ("mask_lrp", "random")
BREAKS = [(5, True), (8, False), (15, False)]  # children, and files
EVERY_BREAK = [(at, answered) for at in range(1, 26) for answered in (False, True)]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_TOKEN", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def root(mlflow_database: Path, tmp_path: Path) -> Path:
    shutil.copy(mlflow_database, tmp_path / "mlflow.db")
    return tmp_path


@pytest.fixture
def folder(make_run: Callable[..., Path]) -> Path:
    return without_record(make_run("demo", n=4, methods=METHODS))


def without_record(folder: Path, **fields: Any) -> Path:
    """A run folder that has not been recorded anywhere."""
    (folder / "manifest.json").write_text(json.dumps(manifest(folder) | {"tracking": {}} | fields))
    return folder


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


def tracker_of(folder: Path, root: Path, **settings: Any) -> Tracker:
    config = TrackingConfig(**({"store": "sqlite", "wait_s": 0} | settings))
    return Tracker(config, root=root, run_key=manifest(folder)["run_key"], name="demo")


def recorded(root: Path) -> list[dict[str, Any]]:
    """All that MLflow holds of the experiment, but for its ids and the time it was started."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("headlight")
    runs = client.search_runs([experiment.experiment_id], max_results=1000) if experiment else []
    names = {run.info.run_id: run.info.run_name for run in runs}
    return sorted((_told(client, run, names) for run in runs), key=lambda run: (str(run["parent"]), run["name"]))


def _told(client: Any, run: Any, names: dict[str, str]) -> dict[str, Any]:
    ours = {
        key: value for key, value in run.data.tags.items() if key.startswith(("headlight.", "hydra.", "mlflow.note"))
    }
    points = [point for key in run.data.metrics for point in client.get_metric_history(run.info.run_id, key)]
    return {
        "name": run.info.run_name,
        "parent": names.get(run.data.tags.get("mlflow.parentRunId")),
        "status": run.info.status,
        "ended": run.info.end_time,
        "tags": ours,
        "params": run.data.params,
        "points": sorted((point.key, point.step, point.value, point.timestamp) for point in points),
        "data": [(entry.dataset.name, entry.dataset.digest) for entry in run.inputs.dataset_inputs],
        "files": sorted(file.path for file in client.list_artifacts(run.info.run_id)),
    }


class Flaky:
    """An MLflow client whose server dies at a request: before it takes it, or after, so that the answer is lost."""

    def __init__(self, client: Any, dies_at: int, took_it: bool):
        self._client, self._dies_at, self._took_it, self.requests = client, dies_at, took_it, 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if name.startswith("_"):
            return found

        def request(*given: Any, **named: Any) -> Any:
            self.requests += 1
            if self.requests == self._dies_at and self._took_it:
                found(*given, **named)
            if self.requests >= self._dies_at:
                raise requests.ConnectionError("connection refused")
            return found(*given, **named)

        return request


def log_until(folder: Path, root: Path, dies_at: int, took_it: bool) -> tuple[Tracker, Flaky]:
    """Log a run whose server dies at a request, counted from the start of `log`."""
    with tracker_of(folder, root) as tracker:
        tracker.start()
        with tracker._connection.session() as experiment:
            flaky = Flaky(experiment.client, dies_at, took_it)
        tracker._connection._opened = Experiment(flaky, experiment.id)
        tracker.log(folder)
    return tracker, flaky


@pytest.fixture
def undisturbed(folder: Path, root: Path, tmp_path: Path) -> list[dict[str, Any]]:
    """What MLflow holds of the same run where nothing happened."""
    whole = tmp_path / "undisturbed"
    whole.mkdir()
    shutil.copy(root / "mlflow.db", whole)
    copy = Path(shutil.copytree(folder, whole / "demo"))
    log_until(copy, whole, 10**6, False)
    return recorded(whole)


def check_break(folder: Path, root: Path, expected: list[dict[str, Any]], dies_at: int, took_it: bool) -> None:
    tracker, flaky = log_until(folder, root, dies_at, took_it)
    assert flaky.requests == dies_at
    assert manifest(folder)["tracking"]["waiting"] == tracker.held
    assert f"`headlight sync {folder}` sends it" in str(tracker.address())
    sync(folder, root)
    assert recorded(root) == expected
    assert manifest(folder)["tracking"]["waiting"] is None


@pytest.mark.parametrize(("dies_at", "took_it"), BREAKS)
def test_nothing_is_lost_or_twice_when_the_server_dies_in_the_middle(
    folder: Path, root: Path, undisturbed: list[dict[str, Any]], dies_at: int, took_it: bool
) -> None:
    check_break(folder, root, undisturbed, dies_at, took_it)


@pytest.mark.slow
@pytest.mark.parametrize(("dies_at", "took_it"), EVERY_BREAK)
def test_there_is_no_moment_at_which_anything_is_lost_or_twice(
    folder: Path, root: Path, undisturbed: list[dict[str, Any]], dies_at: int, took_it: bool
) -> None:
    check_break(folder, root, undisturbed, dies_at, took_it)


def test_the_moments_are_all_there_are(folder: Path, root: Path) -> None:
    _, flaky = log_until(folder, root, 10**6, False)
    assert flaky.requests == len(EVERY_BREAK) / 2


def test_a_run_sent_twice_is_recorded_once(folder: Path, root: Path, undisturbed: list[dict[str, Any]]) -> None:
    for _ in range(2):
        sync(folder, root)
        assert recorded(root) == undisturbed


def test_a_server_that_comes_back_in_time_is_waited_for(
    folder: Path, root: Path, undisturbed: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = []
    send = Tracker._send

    def unsteady(self: Tracker, *given: Any) -> None:
        attempts.append(given)
        if len(attempts) == 1:
            raise requests.ConnectionError("connection refused")
        send(self, *given)

    monkeypatch.setattr(Tracker, "_send", unsteady)
    with tracker_of(folder, root, wait_s=60) as tracker:
        tracker.start()
        tracker.log(folder)
    assert len(attempts) == 2
    assert tracker.held is None
    assert recorded(root) == undisturbed


def test_offline_connects_to_nothing_and_is_sent_later(
    folder: Path, root: Path, undisturbed: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with tracker_of(folder, root, store="offline") as tracker:
        tracker.start()
        tracker.log(folder)
    assert tracker.address() == f"the record waits in {folder} (tracking=offline); `headlight sync {folder}` sends it"
    assert recorded(root) == []
    assert main(["sync", "demo", "--root", str(root), "--to", f"sqlite:///{root / 'mlflow.db'}"]) == 0
    assert recorded(root) == undisturbed


def test_sync_goes_where_the_run_wanted_to(folder: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = f"sqlite:///{root / 'elsewhere.db'}"
    shutil.copy(root / "mlflow.db", root / "elsewhere.db")
    with tracker_of(folder, root, uri=elsewhere) as tracker:
        tracker.start()
        tracker.held = "gone"
        tracker._connection = None
        tracker.log(folder)
    assert main(["sync", "last", "--root", str(root)]) == 0
    assert f"--backend-store-uri {elsewhere}" in capsys.readouterr().out
    assert manifest(folder)["tracking"]["run_id"] == tracker.run_id


def test_sync_refuses_a_server_that_does_not_answer(
    folder: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sync", "demo", "--root", str(root), "--to", "http://127.0.0.1:9"]) == 4
    assert "tracking.uri=http://127.0.0.1:9 is not reachable" in capsys.readouterr().err
    assert main(["sync", "nothing", "--root", str(root)]) == 4


def test_a_continued_run_has_not_ended(folder: Path, root: Path) -> None:
    with tracker_of(folder, root) as first:
        first.start()
        first.log(folder)
    assert recorded(root)[-1]["ended"]
    with tracker_of(folder, root) as second:
        second.start()
        run = next(run for run in recorded(root) if run["parent"] is None)
        assert (run["status"], run["ended"] or None) == ("RUNNING", None)
        assert first.run_id == second.run_id


def test_a_run_with_failures_is_recorded_as_failed(folder: Path, root: Path) -> None:
    sync(without_record(folder, status="failed"), root)
    assert [run["status"] for run in recorded(root) if run["parent"] is None] == ["FAILED"]


def test_credentials_are_not_recorded(folder: Path, root: Path) -> None:
    from pipeline.redact import without_credentials

    assert without_credentials("tracking.uri=https://me:pa%20ss@host/x") == "tracking.uri=https://host/x"
    with pytest.raises(InputError) as caught:
        sync(folder, root, "http://me:secret@127.0.0.1:9")
    assert "secret" not in str(caught.value)


# --- sweeps ---------------------------------------------------------------------------------------------------------


def sweep_of(root: Path, **settings: Any) -> SweepTracker:
    config = TrackingConfig(**({"store": "sqlite", "wait_s": 0} | settings))
    return SweepTracker(config, root=root, sweep_id="s1", name="models")


@pytest.fixture
def jobs(make_run: Callable[..., Path]) -> list[Path]:
    folders = [make_run(f"job-{number}", n=4, seed=number, methods=METHODS) for number in range(2)]
    common = ["model=local", "~attribution.other"]
    return [without_record(path, overrides=[f"dataset.limit={i}", *common]) for i, path in enumerate(folders)]


def log_sweep(root: Path, jobs: list[Path], **settings: Any) -> tuple[SweepTracker, Path]:
    folder = root / "sweeps" / "models"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.html").write_text("<p>sweep")
    with sweep_of(root, **settings) as sweep:
        sweep.start()
        for path in jobs:
            with sweep.job(run_key=manifest(path)["run_key"], name=path.name) as job:
                job.start()
                job.log(path)
        sweep.log(folder, params={"model": "local"}, numbers={"jobs": 2}, table=[{"method": "a", "aopc": 0.5}])
    return sweep, folder


def test_a_sweep_is_two_levels_deep(root: Path, jobs: list[Path]) -> None:
    log_sweep(root, jobs)
    sweep, first, second = recorded(root)
    assert (sweep["name"], sweep["parent"], sweep["status"]) == ("models", None, "FINISHED")
    assert {job["parent"] for job in (first, second)} == {"models"}
    assert sweep["params"] == {"model": "local"}
    assert sweep["files"] == ["report.html", "table.json"]
    assert first["tags"]["hydra.overrides"] == "dataset.limit=0 model=local ~attribution.other"
    assert first["tags"]["headlight.sweep_id"] == "s1"
    assert [job["params"]["dataset.limit"] for job in (first, second)] == ["0", "1"]
    assert first["params"]["model"] == "local"
    assert "attributions.parquet" in first["files"]


def test_a_job_keeps_its_leading_metric_of_every_method(root: Path, make_run: Callable[..., Path]) -> None:
    folder = without_record(make_run("many", n=3))
    log_sweep(root, [folder])
    job = recorded(root)[1]
    numbers = {key: value for key, _, value, _ in job["points"]}
    assert len(numbers) <= MAX_SCALARS
    assert {f"aopc/{method}" for method in manifest(folder)["methods"]} <= numbers.keys()
    assert numbers["best/aopc"] == numbers[f"aopc/{job['tags']['headlight.best']}"]
    assert numbers["n"] == 3


def test_a_sweep_goes_on_in_the_same_record(root: Path, jobs: list[Path]) -> None:
    log_sweep(root, jobs[:1])
    before = recorded(root)
    log_sweep(root, jobs)
    assert len(recorded(root)) == len(before) + 1


def test_a_run_alone_is_another_record_than_the_job(root: Path, jobs: list[Path]) -> None:
    log_sweep(root, jobs)
    job = manifest(jobs[0])["tracking"]["run_id"]
    with tracker_of(jobs[0], root) as tracker:
        tracker.start()
    assert tracker.run_id != job


@pytest.mark.parametrize("of", ["sweep", "jobs"])
def test_an_offline_sweep_is_sent_whole_or_by_job(root: Path, jobs: list[Path], of: str) -> None:
    _, folder = log_sweep(root, jobs, store="offline")
    assert recorded(root) == []
    for path in [folder] if of == "sweep" else jobs:
        assert main(["sync", str(path), "--root", str(root)]) == 0
    assert main(["sync", "models", "--root", str(root)]) == 0
    sent = recorded(root)
    assert [run["status"] for run in sent] == ["FINISHED"] * 3
    assert json.loads((folder / "tracking.json").read_text())["jobs"] == []
    assert {manifest(path)["tracking"]["waiting"] for path in jobs} == {None}


def test_a_server_that_is_down_is_not_asked_by_every_job(
    root: Path, jobs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.tracking import connection
    from pipeline.tracking.destination import Unreachable

    asked = []

    def dead(target: Any) -> None:
        asked.append(target)
        raise Unreachable("http://h is not reachable")

    with sweep_of(root) as sweep:
        sweep.start()
        monkeypatch.setattr(connection, "probe", dead)
        for path in jobs:
            sweep.job(run_key=manifest(path)["run_key"], name=path.name).log(path)
        assert len(asked) == 1
    assert {manifest(path)["tracking"]["waiting"] for path in jobs} == {"http://h is not reachable"}
