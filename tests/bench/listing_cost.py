"""What it takes to list runs: it grows with their number alone."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from timing import Ratio, ratio

from pipeline.runs import list_runs
from pipeline.schemas import RUN_TABLES, SCHEMA_VERSION

N_METHODS, METRICS = 8, ("aopc", "log_odds", "comprehensiveness", "sufficiency")


def costs() -> Iterator[Ratio]:
    """The ratios, one after another."""
    with tempfile.TemporaryDirectory() as folder:
        few, many = (_runs(Path(folder) / str(count), count) for count in (20, 200))
        yield ratio("list 200 runs", lambda: list_runs(many), "list 20 runs", lambda: list_runs(few), limit=12)


def _runs(folder: Path, count: int) -> Path:
    methods = [f"method_{number}" for number in range(N_METHODS)]
    numbers = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 100, "n_undefined": 0}
    rows = [{"method": method, "metric": metric, **numbers} for method in methods for metric in METRICS]
    table = pa.Table.from_pylist(rows, schema=RUN_TABLES["metrics"])
    about = {"schema_version": SCHEMA_VERSION, "methods": {method: {"method": method} for method in methods}}
    for number in range(count):
        run = folder / str(number)
        run.mkdir(parents=True)
        (run / "manifest.json").write_text(json.dumps({**about, "run_id": str(number), "created": str(number)}))
        pq.write_table(table, run / "metrics.parquet")
    return folder
