"""Run folders that are complete: a sweep that goes on leaves them as they are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from attribution.errors import InputError
from pipeline.compose import run_key
from pipeline.experiment import Experiment
from pipeline.folder import RESULTS, find_folder, write_json
from pipeline.keys import digest, file_digest
from pipeline.manifest import RESULT_CODE, code_digest
from pipeline.runs import CONFIG, MANIFEST, REPORT, Run, read_manifest
from pipeline.stages import load_model
from pipeline.stages.setting import content_of
from pipeline.store import parquet_bytes
from pipeline.tracking import Tracker

WRITING_CODE = ("pipeline.report", "pipeline.tracking")  # what says the same results in another way
WRITTEN = (CONFIG, RESULTS, REPORT)  # besides the tables, whose hashes are in the manifest
_ENTRY, _RECORD = "complete", ("uri", "experiment", "sweep")


def signature(experiment: Experiment, tracker: Tracker) -> str:
    """Digest of what decides every key of an experiment that was checked, and of what its folder and record say."""
    config, prepared, setting = experiment.config, experiment.prepared, experiment.setting
    given = None if experiment.heads is None else parquet_bytes(experiment.heads.to_table())
    batches = [content_of(batch) for batch in experiment.batches]
    record = tracker.record() if config.tracking.store != "none" else {}
    return digest(
        {
            "run": run_key(config),
            "patterns": experiment.patterns and experiment.patterns.facts(),
            "data": prepared.dataset.fingerprint,
            "predictions": setting.key(load_model.STAGE, batches=batches),
            "layer texts": experiment.layer_texts and experiment.layer_texts.prepared.examples_key,
            "shuffled": setting.shuffled,
            "heads": [count.key for count in experiment.counts],
            "given heads": given and hashlib.sha256(given).hexdigest(),
            "head texts": experiment.head_texts and experiment.head_texts.prepared.examples_key,
            "code": [code_digest(RESULT_CODE), code_digest(WRITING_CODE)],
            "report": asdict(config.report),
            "record": [config.tracking.store, *(record.get(name) for name in _RECORD)],
        }
    )


def mark_complete(folder: Path, signature: str) -> None:
    """Note in the manifest that everything has been written, the last thing a run does."""
    write_json(folder / MANIFEST, {**Run(folder).manifest, _ENTRY: signature})


def complete_folder(experiment: Experiment, tracker: Tracker, signature: str) -> Path | None:
    """The folder of a run that ended without failures, with all its files and its record; None where there is none."""
    config = experiment.config
    folder = find_folder(Path(config.paths.runs), config.name, run_key(config))
    if folder is None or not _is_complete(folder, signature) or not tracker.take_over(folder):
        return None
    return folder


def _is_complete(folder: Path, signature: str) -> bool:
    try:
        manifest = read_manifest(folder)
    except InputError:  # none, or none that can be read: it is written again
        return False
    files = manifest.get("files") or {}
    return (
        manifest.get(_ENTRY) == signature
        and all((folder / name).is_file() for name in (*WRITTEN, *files))
        and all(file_digest(folder / name) == sha256 for name, sha256 in files.items())
    )


def as_reused(reuse: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, Any]]:
    """The counts of an earlier run, of which nothing had to be computed."""
    return {stage: {"computed": 0, "reused": sum(counts.values())} for stage, counts in reuse.items()}
