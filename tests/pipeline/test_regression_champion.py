"""Who the champion is, where that is recorded, and how it is moved."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from attribution.errors import InputError
from pipeline.cli import main
from pipeline.config import TrackingConfig
from pipeline.regression.champion import champion_folder, files_of
from pipeline.regression.promote import promote
from pipeline.regression.registry import Champion, FileRegistry, MlflowRegistry, registry_of
from pipeline.regression.series import Series
from pipeline.runs import Run, resolve_run
from pipeline.tracking import Tracker

MakeRun = Callable[..., Path]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


def of_series(folder: Path, store: str = "none", series: str = "nightly") -> Path:
    """Say in a run's configuration what it belongs to and where it is recorded."""
    with (folder / "config.yaml").open("a") as file:
        file.write(f"tracking: {{store: {store}, uri: null, experiment: null}}\nregression: {{series: {series}}}\n")
    return folder


def test_the_first_champion_needs_bootstrap_and_later_ones_must_not(make_run: MakeRun, tmp_path: Path) -> None:
    first, second = of_series(make_run("one")), of_series(make_run("two", seed=1))
    with pytest.raises(InputError, match=r"nightly has no champion yet.*promote --bootstrap one"):
        promote(first, tmp_path)
    assert promote(first, tmp_path, bootstrap=True).before is None
    with pytest.raises(InputError, match=r"--bootstrap: nightly has a champion, one"):
        promote(second, tmp_path, bootstrap=True)
    moved = promote(second, tmp_path, reason="better")
    assert moved.before is not None
    assert (moved.before.name, moved.champion.name, moved.champion.reason) == ("one", "two", "better")
    assert [champion.name for champion in FileRegistry(Series(tmp_path, "nightly")).champions()] == ["one", "two"]


def test_promoting_the_champion_again_changes_nothing(make_run: MakeRun, tmp_path: Path) -> None:
    run = of_series(make_run("one"))
    promote(run, tmp_path, bootstrap=True)
    promote(run, tmp_path)
    assert len(FileRegistry(Series(tmp_path, "nightly")).champions()) == 1


def test_a_run_that_failed_is_no_champion(make_run: MakeRun, tmp_path: Path) -> None:
    run = of_series(make_run("one"))
    manifest = json.loads((run / "manifest.json").read_text()) | {"status": "failed", "failures": [{}]}
    (run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="one failed"):
        promote(run, tmp_path, bootstrap=True)


def test_promoting_against_the_verdict_needs_a_reason(make_run: MakeRun, tmp_path: Path) -> None:
    promote(of_series(make_run("one")), tmp_path, bootstrap=True)
    run = of_series(make_run("two", seed=1))
    (run / "verdict.json").write_text('{"verdict": "regression"}')
    with pytest.raises(InputError, match=r"verdict on two is regression.*--reason"):
        promote(run, tmp_path)
    assert promote(run, tmp_path, reason="accepted").champion.reason == "accepted"


def test_what_happens_to_the_run_does_not_reach_the_champion(make_run: MakeRun, tmp_path: Path) -> None:
    run = of_series(make_run("one"))
    promote(run, tmp_path, bootstrap=True)
    expected = Run(run).table("values")
    shutil.rmtree(run)
    make_run("one", seed=5)
    assert Run(resolve_run("champion", tmp_path / "runs")).table("values").equals(expected)


def test_files_that_were_changed_are_no_champion(make_run: MakeRun, tmp_path: Path) -> None:
    promote(of_series(make_run("one")), tmp_path, bootstrap=True)
    folder = champion_folder(tmp_path)
    (folder / "values.parquet").write_bytes((folder / "metrics.parquet").read_bytes())
    with pytest.raises(InputError, match=r"values\.parquet was changed"):
        champion_folder(tmp_path)
    (folder / "values.parquet").unlink()
    with pytest.raises(InputError, match=r"values\.parquet is missing"):
        champion_folder(tmp_path)
    shutil.rmtree(folder)
    with pytest.raises(InputError, match="is gone"):
        champion_folder(tmp_path)


def test_champion_is_a_name_of_a_run(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no champion below"):
        resolve_run("champion", tmp_path / "runs")
    promote(of_series(make_run("one")), tmp_path, bootstrap=True)
    promote(of_series(make_run("two", seed=1), series="weekly"), tmp_path, bootstrap=True)
    with pytest.raises(InputError, match=r"2 series.*champion:nightly, champion:weekly"):
        resolve_run("champion", tmp_path / "runs")
    with pytest.raises(InputError, match=r"champion:daily is not known"):
        resolve_run("champion:daily", tmp_path / "runs")
    assert Run(resolve_run("champion:weekly", tmp_path / "runs")).manifest["name"] == "two"


def test_the_series_is_the_run_s_name_unless_it_says_otherwise(make_run: MakeRun, tmp_path: Path) -> None:
    assert promote(make_run("plain"), tmp_path, bootstrap=True, series=None).series == "plain"
    assert promote(make_run("other", seed=1), tmp_path, bootstrap=True, series="mine").series == "mine"


def test_the_command_promotes_and_refuses(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_series(make_run("one"))
    root = ["--root", str(tmp_path)]
    assert main(["promote", "last", *root]) == 4
    assert "promote --bootstrap one" in capsys.readouterr().err
    assert main(["promote", "last", "--bootstrap", *root]) == 0
    assert capsys.readouterr().out.startswith("one (")
    assert main(["diff", "champion", "last", *root]) == 0
    assert "identical" in capsys.readouterr().out


@pytest.mark.slow
def test_mlflow_keeps_the_champion_as_an_alias(make_run: MakeRun, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    folders = {}
    for name, seed in (("one", 0), ("two", 1)):
        folder = of_series(make_run(name, seed=seed), store="sqlite")
        with Tracker(TrackingConfig("sqlite"), root=tmp_path, run_key=name, name=name) as tracker:
            tracker.start()
            manifest = json.loads((folder / "manifest.json").read_text()) | {"tracking": tracker.record()}
            (folder / "manifest.json").write_text(json.dumps(manifest))
            tracker.log(folder)
        folders[name] = folder
    series = Series(tmp_path, "nightly")
    registry = registry_of(series, TrackingConfig("sqlite"))
    assert isinstance(registry, MlflowRegistry)
    assert registry.champions() == []
    promote(folders["one"], tmp_path, bootstrap=True)
    promote(folders["two"], tmp_path, reason="better")
    champions = registry.champions()
    assert [(champion.name, champion.reason) for champion in champions] == [("one", None), ("two", "better")]
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    version = client.get_model_version_by_alias("headlight-nightly", "champion")
    assert version.run_id == Run(folders["two"]).manifest["tracking"]["run_id"] == champions[-1].mlflow_run_id

    shutil.rmtree(series.snapshot(champions[-1].run_id))  # as on a machine that never saw this run
    fetched = files_of(champions[-1], series, registry)
    assert Run(fetched).table("values").equals(Run(folders["two"]).table("values"))
    assert Run(champion_folder(tmp_path)).manifest["name"] == "two"

    registry.attach(champions[-1].mlflow_run_id, [folders["two"] / "config.yaml"], {"headlight.verdict": "pass"})
    assert client.get_run(str(champions[-1].mlflow_run_id)).data.tags["headlight.verdict"] == "pass"
    client.set_registered_model_alias("headlight-nightly", "champion", "1")  # somebody takes the second one back
    assert [champion.name for champion in registry.champions()] == ["one"]
    by_hand = client.create_model_version("headlight-nightly", "runs:/x/manifest.json", version.run_id)
    client.set_registered_model_alias("headlight-nightly", "champion", by_hand.version)
    with pytest.raises(InputError, match="version 3 of headlight-nightly in MLflow was not made by"):
        registry.champions()
    with pytest.raises(InputError, match="is not recorded in MLflow"):
        registry.promote(Champion("x", "untracked", "now"))


def test_without_a_database_there_is_no_champion_and_none_is_made(tmp_path: Path) -> None:
    registry = registry_of(Series(tmp_path, "nightly"), TrackingConfig("sqlite"))
    assert registry.champions() == []
    assert list(tmp_path.iterdir()) == []
