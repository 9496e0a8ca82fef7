from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from attribution.errors import InputError
from pipeline.runs import Run, list_runs, resolve_run

MakeRun = Callable[..., Path]
ROOT = Path(__file__).parents[2]
SLOW_TO_IMPORT = ("torch", "transformers", "ray", "mlflow", "hydra", "scipy", "pandas")


def amend(folder: Path, **fields: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.fixture
def runs(run_folder: Path, tmp_path: Path) -> Path:
    """Two runs, the later one named `demo` like the first, and one that was stopped early."""
    for name, created in (("demo", "2026-11-20T10:00:00"), ("demo-2", "2026-11-21T10:00:00")):
        shutil.copytree(run_folder, tmp_path / name)
        amend(
            tmp_path / name,
            created=created,
            name="demo",
            run_id=f"{name}-0123456789",
            tracking={"run_id": f"mlflow{name}"},
        )
    (tmp_path / "stopped").mkdir()
    (tmp_path / "stopped" / "config.yaml").write_text("name: stopped\n")
    return tmp_path


@pytest.mark.parametrize(
    ("ref", "folder"),
    [
        ("last", "demo-2"),
        ("demo", "demo"),
        ("demo-2", "demo-2"),
        ("demo-0", "demo"),
        ("mlflowdemo-2", "demo-2"),
        ("mlflowdemo", "demo-2"),
    ],
)
def test_a_run_is_found_by_what_people_call_it(runs: Path, ref: str, folder: str) -> None:
    assert resolve_run(ref, runs) == runs / folder


def test_a_run_is_found_by_path(runs: Path, tmp_path: Path) -> None:
    assert resolve_run(str(runs / "demo"), tmp_path / "elsewhere") == runs / "demo"
    assert resolve_run(str(runs / "demo" / "manifest.json"), tmp_path / "elsewhere") == runs / "demo"


def test_a_name_shared_by_folders_means_the_newest(runs: Path) -> None:
    (runs / "demo").rename(runs / "older")
    assert resolve_run("demo", runs) == runs / "demo-2"


def test_an_unknown_run_names_near_ones(runs: Path) -> None:
    with pytest.raises(InputError, match=r"dmo-2 is not a run .* Did you mean demo-2"):
        resolve_run("dmo-2", runs)
    with pytest.raises(InputError, match="there are no runs in"):
        resolve_run("last", runs / "nowhere")


def test_rows_name_the_best_method_newest_first(runs: Path) -> None:
    rows = list_runs(runs)
    assert [row["name"] for row in rows] == ["demo-2", "demo", "stopped"]
    assert (rows[0]["best"], rows[0]["metric"], rows[0]["n"]) == ("mask_lrp", "aopc", 12)
    assert rows[0]["value"] > 0.4
    assert rows[2]["status"] == "unfinished"


def test_a_schema_of_another_major_version_is_refused(runs: Path) -> None:
    amend(runs / "demo", schema_version="9.0.0")
    with pytest.raises(InputError, match=r"has schema 9\.0\.0; this Headlight reads 1\.x"):
        _ = Run(runs / "demo").manifest


def test_a_table_not_written_is_empty(runs: Path) -> None:
    (runs / "demo" / "heads.parquet").unlink()
    assert Run(runs / "demo").table("heads", ["role"]).num_rows == 0


def test_listing_reads_the_manifest_and_one_table_of_each_run(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else is in the folders; the time it takes then grows with nothing but their number."""
    n = 5
    for index in range(n):
        shutil.copytree(run_folder, tmp_path / f"run-{index}")
    read: Counter[str] = Counter()
    texts, tables = Path.read_text, pq.ParquetFile

    def read_text(path: Path, *arguments: str) -> str:
        read[path.name] += 1
        return texts(path, *arguments)

    def parquet_file(path: Path) -> pq.ParquetFile:
        read[path.name] += 1
        return tables(path)

    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr("pipeline.runs.pq.ParquetFile", parquet_file)
    assert len(list_runs(tmp_path)) == n
    assert read == {"manifest.json": n, "metrics.parquet": n}


@pytest.mark.parametrize("command", [["runs"], ["diff", "demo", "demo-2"]])
def test_listing_and_comparing_wait_for_no_engine(runs: Path, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "runs").symlink_to(runs)
    code = f"""
import sys
from pipeline.cli import main

assert main({[*command, "--root", str(tmp_path / "root")]!r}) == 0
print(sorted({{*{SLOW_TO_IMPORT}}} & {{*sys.modules}}))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "mask_lrp" in done.stdout or "demo" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
