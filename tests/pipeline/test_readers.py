"""Tables of runs and results of the store are plain Parquet: other readers find in them what pyarrow finds."""

from __future__ import annotations

from pathlib import Path

import datasets
import duckdb
import pyarrow.parquet as pq
from tiny_experiment import tiny_overrides
from tiny_models import save_tiny

from pipeline.execution import make_progress
from pipeline.run import run
from pipeline.validate import load_config


def by_duckdb(path):
    found = duckdb.sql(f"select * from read_parquet('{path}')")
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def by_datasets(path):
    return datasets.Dataset.from_parquet(str(path), cache_dir="cache", keep_in_memory=True).to_list()


def test_readers_agree_on_every_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    methods = ["attribution.m.method=mask_lrp", "evaluation.controls=[]", "errors.method=m"]
    overrides = [*tiny_overrides(save_tiny("bert", tmp_path / "tiny"), tmp_path), *methods]
    folder = run(load_config(overrides), overrides, make_progress(silent=True)).folder
    tables, results = (sorted(Path(where).rglob("*.parquet")) for where in (folder, "outputs/store"))
    assert {"attributions", "errors", "values"} <= {path.stem for path in tables}
    assert {"attribute", "evaluate", "explain_errors"} <= {path.parts[-3] for path in results}
    for path in (*tables, *results):
        rows = pq.read_table(path).to_pylist()
        assert repr(by_duckdb(path)) == repr(rows), path
        assert repr(by_datasets(path)) == repr(rows), path
