"""The stages of a run, one file each: what each task is made of, and what a worker does with it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.worker import StageWorker

STAGES = ("load_model", "identify_heads", "attribute", "evaluate")


def process(stage: str, payload: dict[str, Any], worker: StageWorker) -> dict[str, Any]:
    """Do one task of a stage."""
    done: dict[str, Any] = import_module(f"pipeline.stages.{stage}").process(worker=worker, **payload)
    return done
