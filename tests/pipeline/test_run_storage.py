"""Whole runs on a tiny model whose store is in a bucket, full, read-only, damaged, or shared with another driver."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tiny_models import save_tiny

from pipeline.backends import backend_of
from pipeline.cli import main
from pipeline.folder import claim_folder
from pipeline.keys import file_digest

TEXTS = "sentence\tlabel\nthe film was good .\tpositive\nthe meal was awful .\tnegative\nfine .\tpositive\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny("bert", tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def command(model, tmp_path, monkeypatch):
    """A small run whose files all go below the test's folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reviews.tsv").write_text(TEXTS)
    return [
        "run", "model=local", f"model.path={model}", "dataset=local", "dataset.path=reviews.tsv", "heads=all",
        "attribution=none", "attribution.m.method=gradcam", "attribution.random.method=random", "tracking=none",
        "cluster=local", "cluster.device=cpu", "cluster.threads=1", "cluster.max_batch=1", "name=small",
        "++model.label_map.positive=1", "++model.label_map.negative=0",
    ]  # fmt: skip


def files(folder):
    return json.loads((Path(folder) / "manifest.json").read_text())["files"]


def test_a_store_in_a_bucket_gives_the_same_bytes(command, s3, capsys):
    assert main([*command, "paths.root=here"]) == 0
    assert main([*command, "paths.root=there", f"paths.store={s3}"]) == 0
    assert files("there/runs/small") == files("here/runs/small")
    assert not Path("there/store").exists()
    assert main([*command, "paths.root=again", f"paths.store={s3}"]) == 0
    reuse = json.loads(Path("again/runs/small/manifest.json").read_text())["reuse"]
    assert all(stage["computed"] == 0 for stage in reuse.values())


def test_a_bucket_that_cannot_be_reached_is_bad_input(command, s3, capsys):
    assert main([*command, "paths.store=s3://no-such-bucket/x"]) == 4
    assert "conf error: paths.store=s3://no-such-bucket/x: NoSuchBucket" in capsys.readouterr().err
    assert main([*command, "paths.root=s3://bucket/x"]) == 4
    assert "conf error: paths.root=s3://bucket/x is not a folder; only paths.store may be" in capsys.readouterr().err


def the_error(text):
    """The one line that says why it ended."""
    assert "Traceback" not in text
    (line,) = [line for line in text.splitlines() if line.startswith(("error", "stopped"))]
    return line


@pytest.mark.parametrize("stages", [["examples", "attribute"], ["load_model", "evaluate"]])
def test_results_damaged_between_two_runs_are_computed_again_within_the_second(command, capsys, stages):
    assert main(command) == 0
    before = files("outputs/runs/small")
    shutil.rmtree("outputs/runs")
    for path in [path for stage in stages for path in Path("outputs/store", stage).rglob("*.parquet")]:
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    if "attribute" in stages:
        shutil.rmtree("outputs/store/evaluate")  # so that workers are the first to read the damaged ones
    assert main(command) == 0
    assert files("outputs/runs/small") == before


def test_a_run_notes_every_result_it_is_made_of(command):
    assert main([*command, "heads=grammar", "heads.sentences=60"]) == 0
    noted = Path("outputs/runs/small/results.txt").read_text().splitlines()
    stored = {found.name for found in backend_of("outputs/store").list()}
    assert sorted(noted) == sorted(name for name in stored if not name.startswith("users/"))
    assert {name.split("/")[0] for name in noted} == {
        "examples",
        "load_model",
        "identify_heads",
        "attribute",
        "evaluate",
        "explain_errors",
        "remove_words",
    }
    assert main(["gc", "--older", "0m", "--keep", "small"]) == 0
    assert main([*command, "heads=grammar", "heads.sentences=60"]) == 0
    reuse = json.loads(Path("outputs/runs/small/manifest.json").read_text())["reuse"]
    assert all(stage["computed"] == 0 for stage in reuse.values())


@contextlib.contextmanager
def mounted(folder, options):
    """A small file system of its own; skips the test where this user may not mount one."""
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_stops_the_run_which_then_goes_on(command, tmp_path, capsys):
    assert main([*command, "paths.root=undisturbed"]) == 0
    with mounted(tmp_path / "disk", "size=1m") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(960 * 1024))
        capsys.readouterr()
        assert main([*command, f"paths.store={disk}/store"]) == 5
        line = the_error(capsys.readouterr().err)
        assert line.startswith(f"stopped (paths.store={disk}/store: ")
        assert "No space left on device; free some space, for instance by `headlight gc`" in line
        assert line.endswith("); the same command goes on from here")
        assert not list(disk.rglob("*.tmp"))
        assert any(disk.rglob("*.parquet"))
        ballast.unlink()
        assert main([*command, f"paths.store={disk}/store"]) == 0
        reuse = json.loads(Path("outputs/runs/small/manifest.json").read_text())["reuse"]
        assert reuse["load_model"]["reused"] > 0
    assert files("outputs/runs/small") == files("undisturbed/runs/small")


def test_a_read_only_store_serves_what_it_has(command, tmp_path, capsys):
    with mounted(tmp_path / "disk", "size=4m") as disk:
        assert main([*command, f"paths.store={disk}/store"]) == 0
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        capsys.readouterr()
        assert main([*command, f"paths.store={disk}/store", "paths.root=again"]) == 0
        assert main([*command, f"paths.store={disk}/store", "attribution.more.method=attcat"]) == 5
        line = the_error(capsys.readouterr().err)
        assert line.startswith(f"stopped (paths.store={disk}/store: attribute/")
        assert "cannot be written: Read-only file system); the same command" in line


def test_a_full_disk_for_runs_is_named_too(command, tmp_path, capsys):
    with mounted(tmp_path / "disk", "size=16k") as disk:
        assert main([*command, f"paths.runs={disk}/runs"]) == 5
        assert the_error(capsys.readouterr().err).startswith(f"stopped (paths.runs={disk}/runs: small/")


def start(command, *overrides):
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", *command, *overrides],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"COLUMNS": "200"},
    )  # fmt: skip


@pytest.mark.slow
def test_two_drivers_of_one_run_both_finish_with_the_same_bytes(command):
    assert main([*command, "paths.root=alone"]) == 0
    drivers = [start(command) for _ in range(2)]
    for driver in drivers:
        output, _ = driver.communicate(timeout=300)
        assert driver.returncode == 0, output
    assert [path.name for path in Path("outputs/runs").iterdir() if not path.name.startswith(".")] == ["small"]
    assert files("outputs/runs/small") == files("alone/runs/small")
    for name, sha256 in files("outputs/runs/small").items():
        assert file_digest(Path("outputs/runs/small", name)) == sha256


def test_experiments_of_one_name_that_start_at_once_get_folders_of_their_own(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda number: claim_folder(tmp_path / "runs", "same", f"key{number % 4}"), range(40)))
    by_key = {}
    for number, claim in enumerate(claims):
        by_key.setdefault(f"key{number % 4}", set()).add(claim.path)
        assert (claim.path / "run_key").read_text() == f"key{number % 4}"
    assert all(len(paths) == 1 for paths in by_key.values())
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["same", "same-2", "same-3", "same-4"]
