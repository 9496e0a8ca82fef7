"""What a run writes about itself."""

from __future__ import annotations

import platform
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from attribution.methods.registry import METHODS
from attribution.passes import PassCounts
from pipeline.config import Config
from pipeline.data.labels import LabelFit
from pipeline.errors import can_be_repeated
from pipeline.execution import Task, worker_threads
from pipeline.execution.task import Outcome, resident_memory
from pipeline.keys import source_digest, versions
from pipeline.prepare import Prepared
from pipeline.schemas import SCHEMA_VERSION
from pipeline.stages import measure_memory

RESULT_CODE = (  # with all they import: the code that results are made by
    "pipeline.study_patterns",
    *(f"pipeline.stages.{stage}" for stage in ("measure_patterns", "inject_patterns")),
    *(f"pipeline.stages.{stage}" for stage in ("score_injected", "train_student", "train_classifier")),
    "pipeline.stages.measure_costs",
    *(f"pipeline.stages.{stage}" for stage in ("load_model", "identify_heads", "attribute", "evaluate")),
    *(f"pipeline.{name}" for name in ("stages.weigh_heads", "stages.prune_heads", "head_importance")),
    *(f"pipeline.stages.{stage}" for stage in ("mix_context", "represent", "probe")),
    *(f"pipeline.stages.{stage}" for stage in ("compare_operators", "explain_again", "explain_errors", "remove_words")),
    *(f"pipeline.{name}" for name in ("prepare", "targets", "head_search", "score", "values", "means")),
    *(f"pipeline.{name}" for name in ("mixing", "error_steps")),
)

NAMED = 5  # examples that a line lists; the attributions have all of them


@cache
def code_digest(modules: tuple[str, ...]) -> str:
    """Digest of code, read once: what a process runs does not change."""
    return source_digest(modules)


@dataclass
class Facts:
    """What happens during a run."""

    created: str = field(default_factory=lambda: _now())
    finished_at: str | None = None
    notes: list[str] = field(default_factory=list)
    fit: LabelFit | None = None
    timings: dict[str, float] = field(default_factory=dict)  # stage -> seconds
    shards: list[tuple[Any, ...]] = field(default_factory=list)  # rows of SHARDS
    worker_seconds: dict[str, float] = field(default_factory=dict)  # stage -> seconds of all its tasks together
    reuse: dict[str, dict[str, int]] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    keys: dict[str, set[str]] = field(default_factory=dict)  # stage -> results that the run refers to
    resident_bytes: int = 0  # the most that a worker ever held of its machine's memory; 0 where none worked
    memory: dict[str, Any] | None = None  # what was measured of a pass, a row of MEMORY
    hardware: set[str] = field(default_factory=set)  # that something was computed on
    lost: set[str] = field(default_factory=set)  # keys that failed tasks should have made
    divided: dict[str, int] = field(default_factory=dict)  # stage -> tasks done in parts because memory was short
    passes: PassCounts = field(default_factory=PassCounts)  # of perturbed inputs that the run computed itself
    forwards_alone: int = 0  # on perturbed inputs, of every method and metric by itself
    budget: dict[str, Any] | None = None  # of evaluation.budget: what was reached, and why no more was added
    poison: dict[str, str] = field(default_factory=dict)  # item id of an example that cannot be computed -> why

    def started(self) -> None:
        """Everything has been checked; from here on something is written."""
        self.created = _now()

    def finished(self) -> None:
        """The results are complete."""
        self.finished_at = _now()

    def note(self, outcome: Outcome, task: Task) -> None:
        """Keep what became of a task, if it failed by itself; what failed for its surroundings is done again."""
        self.worker_seconds[task.stage] = self.worker_seconds.get(task.stage, 0.0) + outcome.seconds
        parts = outcome.value.get("parts", 1)
        taken = (outcome.seconds, outcome.attempts, outcome.worker, outcome.peak_bytes, parts)
        self.shards.append((task.stage, task.id, outcome.ok, *taken))
        self.resident_bytes = max(self.resident_bytes, outcome.resident_bytes)
        self.hardware |= {outcome.hardware} - {""}
        self.passes += PassCounts(**outcome.value.get("passes", {}))
        if parts > 1:
            self.divided[task.stage] = self.divided.get(task.stage, 0) + 1
        if outcome.ok or can_be_repeated(outcome) or task.stage == measure_memory.STAGE:
            return  # nothing is made of a measurement but how much is tried at once
        about = {"traceback": outcome.traceback, "attempts": outcome.attempts, "worker": outcome.worker}
        entry = {"stage": task.stage, "task": task.id[:16], **about}
        if not outcome.poison:
            self.lost.update(task.results)
            self.failures.append({**entry, "error": outcome.error})
        for item, error in outcome.poison:
            if self.poison.setdefault(item, error) is error:
                self.failures.append({**entry, "item_id": item, "error": error})

    @property
    def saved(self) -> str:
        """What sharing and earlier results saved, in words; empty where nothing is perturbed."""
        return replace(self.passes, requested=self.forwards_alone).saved if self.forwards_alone else ""

    def refers_to(self, stage: str, keys: Iterable[str]) -> None:
        """Note results that the run is made of: `headlight gc` keeps them as long as the run.

        A measurement is none of them: whether it is needed depends on what is at hand.
        """
        if stage == measure_memory.STAGE:
            return
        self.keys.setdefault(stage, set()).update(keys)

    def lacks(self, task: Task) -> bool:
        """Whether a task reads something that could not be made."""
        wanted = task.payload.get("wanted", {}).values()
        return any(each.attribution_key in self.lost for each in wanted)

    def not_finite(self, attributions: pa.Table) -> None:
        """Note the examples whose scores are not finite."""
        bad = attributions.select(["method", "item_id", "status", "problem"]).filter(pc.field("status") != "ok")
        named: dict[str, list[str]] = {}
        for row in bad.to_pylist():
            named.setdefault(row["method"], []).append(f"{row['item_id'][:16]}: {row['problem']}")
        for method, each in named.items():
            shown = "; ".join(each[:NAMED]) + ("; ..." if len(each) > NAMED else "")
            error = f"{method}: {len(each)} examples have scores that are not finite: {shown}"
            self.failures.append({"stage": "attribute", "task": method, "error": error, "traceback": None})


def manifest_of(
    config: Config,
    overrides: Sequence[str],
    prepared: Prepared,
    methods: Mapping[str, Mapping[str, Any]],
    facts: Facts,
    device: str,
    workers: int,
    n_texts: int,
) -> dict[str, Any]:
    """The manifest but for the files and the tracking record."""
    return {
        "schema_version": SCHEMA_VERSION,
        "name": config.name,
        "run_id": secrets.token_hex(8),
        "created": facts.created,
        "finished": facts.finished_at,
        "status": "failed" if facts.failures else "done",
        "overrides": list(overrides),
        "model": _model(prepared),
        "dataset": {
            "name": prepared.dataset.name,
            "split": config.dataset.split,
            "fingerprint": prepared.dataset.fingerprint,
            "n": n_texts,
            "notes": facts.notes,
        },
        "environment": {
            "versions": {"python": platform.python_version(), **versions()},
            "code": code_digest(RESULT_CODE),
            "device": device,
            "hardware": ", ".join(sorted(facts.hardware)) or None,
            "threads": worker_threads(config.cluster),
            "executor": config.cluster.executor,
            "workers": workers,
        },
        "seeds": {"run": config.seed, "evaluation": config.evaluation.seed, "sample": config.dataset.sample_seed},
        "methods": described(config, methods),
        "memory": {
            "driver_peak_mib": resident_memory() // 2**20,
            "worker_peak_mib": facts.resident_bytes // 2**20 or None,
            "pass": facts.memory,
        },
        "timings": {stage: round(seconds, 3) for stage, seconds in facts.timings.items()},
        "worker_seconds": {stage: round(seconds, 3) for stage, seconds in facts.worker_seconds.items()},
        "reuse": facts.reuse,
        "budget": facts.budget,
        "forwards": {"alone": facts.forwards_alone, "run": facts.passes.distinct, "saved": facts.saved},
        "accuracy": facts.fit.accuracy if facts.fit else None,
        "majority_rate": facts.fit.majority_rate if facts.fit else None,
        "truncated": _truncated(prepared),
        "windows": _windows(prepared),
        "divided": facts.divided,
        "failures": facts.failures,
    }


def _truncated(prepared: Prepared) -> dict[str, float]:
    """How many texts were cut, by how many tokens, and their share of all tokens."""
    cut = [count for count in prepared.examples["truncated"].to_pylist() if count]
    everything = sum(cut) + pc.sum(pc.list_value_length(prepared.examples["input_ids"])).as_py()
    return {"examples": len(cut), "tokens": sum(cut), "share": sum(cut) / everything}


def _windows(prepared: Prepared) -> dict[str, int] | None:
    """How many texts were explained in windows, and in how many; None where each was explained whole."""
    ids = [text for text in prepared.examples["text_id"].to_pylist() if text is not None]
    if not ids:
        return None
    length, stride = prepared.window
    about = {"texts": len(set(ids)), "windows": len(ids), "length": length}
    return about if stride is None else {**about, "stride": stride}


def _model(prepared: Prepared) -> dict[str, Any]:
    model = prepared.model
    return {
        "name": model.name,
        "id": model.id,
        "revision": model.revision,
        "fingerprint": model.fingerprint,
        "labels": {str(index): label for index, label in model.labels.items()},
        "task": model.task,
        "architecture": model.architecture,
        "n_layers": model.n_layers,
        "n_heads": model.n_heads,
        **({"lm_head": model.lm_head.about} if model.lm_head is not None else {}),
        **({"shuffled": model.shuffled.fingerprint} if model.shuffled is not None else {}),
    }


def described(config: Config, methods: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the manifest says of each method."""
    return {label: _method(config, label, method) for label, method in methods.items()}


def _method(config: Config, label: str, method: Mapping[str, Any]) -> dict[str, Any]:
    """As asked for: a head mask by its name, and what it came to beside it."""
    asked = {key: value for key, value in config.attribution[label].items() if key != "method"}
    entry = METHODS[method["method"]]
    mask = method.get("head_mask")
    described = {"method": entry.id, "params": asked, "source": entry.source, "class_blind": entry.class_blind}
    chosen = {"layer": method["layer"]} if asked.get("layer") not in (None, method.get("layer")) else {}
    return described | chosen | ({"head_mask": mask} if mask is not None else {})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
