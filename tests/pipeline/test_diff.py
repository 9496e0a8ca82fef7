from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.diff import diff_runs

MakeRun = Callable[..., Path]


@pytest.fixture
def pair(run_folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two copies of one run."""
    return tuple(Path(shutil.copytree(run_folder, tmp_path / name)) for name in "ab")  # type: ignore[return-value]


def rewrite(path: Path, change: Callable[[list[dict]], list[dict]], **options: object) -> None:
    table = pq.read_table(path)
    pq.write_table(pa.Table.from_pylist(change(table.to_pylist()), schema=table.schema), path, **options)


def test_equal_bytes_are_identical(pair: tuple[Path, Path]) -> None:
    difference = diff_runs(*pair)
    assert difference.identical
    assert difference.tables == []
    assert "results: identical, byte for byte (7 tables)" in difference.to_text()


def test_a_changed_setting_is_named_by_its_dotted_key(pair: tuple[Path, Path]) -> None:
    config = pair[1] / "config.yaml"
    config.write_text(config.read_text().replace("limit: null", "limit: 96"))
    difference = diff_runs(*pair)
    assert difference.identical
    assert [(change.key, change.a, change.b) for change in difference.config] == [("dataset.limit", None, 96)]
    assert "dataset.limit: None -> 96" in difference.to_text()


def test_a_version_and_a_model_are_named(pair: tuple[Path, Path]) -> None:
    path = pair[1] / "manifest.json"
    path.write_text(path.read_text().replace("2.13.0", "2.14.0").replace("f" * 64, "e" * 64))
    difference = diff_runs(*pair)
    assert [change.key for change in difference.environment] == ["versions.torch"]
    assert [change.key for change in difference.model] == ["fingerprint"]


def test_a_changed_score_is_counted_and_measured(pair: tuple[Path, Path]) -> None:
    def bump(rows: list[dict]) -> list[dict]:
        rows[0]["scores"][1] += 0.25
        return rows

    rewrite(pair[1] / "attributions.parquet", bump)
    difference = diff_runs(*pair)
    (table,) = difference.tables
    assert not difference.identical
    assert (table.table, table.changed, table.methods) == ("attributions", 1, {"mask_lrp": 1})
    assert table.largest["mask_lrp"] == pytest.approx(0.25, rel=1e-6)
    assert "mask_lrp: 1 differ, by up to 0.25" in difference.to_text()


def test_undefined_scores_on_both_sides_are_no_difference(pair: tuple[Path, Path]) -> None:
    rewrite(pair[1] / "attributions.parquet", lambda rows: rows[::-1])
    (table,) = diff_runs(*pair).tables
    assert (table.changed, table.only_a, table.only_b) == (0, 0, 0)


def test_metric_deltas_and_methods_of_one_side(make_run: MakeRun) -> None:
    a, b = make_run("a"), make_run("b", methods=("mask_lrp", "random"))
    difference = diff_runs(a, b)
    gone = {change.key for change in difference.metrics if change.b is None}
    assert "gradcam aopc" in gone
    assert next(table for table in difference.tables if table.table == "attributions").only_a == 6 * 12


def test_examples_of_one_side_are_listed(make_run: MakeRun) -> None:
    difference = diff_runs(make_run("a", n=4), make_run("b", n=6))
    assert (len(difference.items_only_a), len(difference.items_only_b)) == (0, 2)
    assert json.loads(difference.to_json())["identical"] is False
