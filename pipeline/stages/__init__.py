"""The stages of a run, one file each: what each task is made of, and what a worker does with it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.worker import StageWorker

STAGES = ("load_model", "identify_heads", "attribute", "evaluate")


def process(stage: str, payload: dict[str, Any], worker: StageWorker, rows: slice) -> dict[str, pa.Table]:
    """The results {key: table} of one task of a stage, for some rows of its microbatch."""
    tables: dict[str, pa.Table] = import_module(f"pipeline.stages.{stage}").process(worker=worker, rows=rows, **payload)
    return tables
