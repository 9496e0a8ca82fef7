"""What of a run goes into MLflow's own fields. Everything else is in the artifacts."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.report.curves import MeanCurve, mean_curves
from pipeline.report.finding import finding
from pipeline.runs import Run
from pipeline.standing import Standing, best, is_control, leading_metric, standings

MAX_SCALARS = 50  # keys per MLflow run; its pages get slow with thousands
MAX_PARAMETERS = 100
_MAX_VALUE = 500  # characters of a parameter; MLflow cuts longer ones without a word at 6000
_FORBIDDEN = re.compile(r"[^\w\-. :/]")


@dataclass(frozen=True)
class Payload:
    """Parameters, scalars and stepped curves (key -> {step: value}) of one MLflow run."""

    name: str
    tags: dict[str, str]
    params: dict[str, str]
    scalars: dict[str, float]
    curves: dict[str, dict[int, float]] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Equal where a record of this would say the same."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def parent_payload(run: Run) -> Payload:
    """The whole run: its configuration, and what holds for all methods."""
    manifest = run.manifest
    model, data = manifest.get("model") or {}, manifest.get("dataset") or {}
    named = {"model": model.get("name"), "dataset": data.get("name"), "schema": manifest.get("schema_version")}
    truncated = manifest.get("truncated") or {}
    numbers = {"n": data.get("n"), "accuracy": manifest.get("accuracy"), "majority_rate": manifest.get("majority_rate")}
    numbers |= {f"truncated/{key}": value for key, value in truncated.items()}
    numbers |= {f"seconds/{stage}": value for stage, value in (manifest.get("timings") or {}).items()}
    numbers["failures"] = len(manifest.get("failures") or [])
    numbers |= {
        f"{row['study']}/{row['metric']}/{row['arm']}": row["value"]
        for row in run.table("arms").to_pylist()
        if row["against"] is None
    }
    tags = {f"headlight.{key}": str(value) for key, value in named.items() if value is not None}
    tags["mlflow.note.content"] = " ".join(finding(standings(run.table("metrics").to_pylist()), manifest))
    return Payload(str(manifest.get("name")), tags, parameters(run.config), scalars(numbers.items()), _losses(run))


def _losses(run: Run) -> dict[str, dict[int, float]]:
    """What training lost in each epoch, for every student of the run."""
    curves: dict[str, dict[int, float]] = {}
    for row in run.table("losses").to_pylist():
        curves.setdefault(_key(f"loss/{row['study']}/{row['arm']}/{row['seed']}"), {})[row["epoch"]] = row["loss"]
    return curves


def method_payloads(run: Run) -> list[Payload]:
    """One per method label, in the order of the manifest."""
    entries, curves = standings(run.table("metrics").to_pylist()), mean_curves(run.table("curves"))
    return [_method(run, label, entries, curves) for label in run.manifest.get("methods") or {}]


def job_payload(run: Run) -> Payload:
    """A run of a sweep: its overrides, what they made of the configuration, and MAX_SCALARS numbers of all methods.

    First the leading metric of every method, then the best of them and what holds for the whole run, then the other
    metrics in their order, as far as there is room.
    """
    manifest, whole = run.manifest, parent_payload(run)
    overrides = [str(override) for override in manifest.get("overrides") or []]
    entries = [entry for entry in standings(run.table("metrics").to_pylist()) if entry.against is None]
    leading, first = leading_metric(entry.metric for entry in entries), best(entries, manifest)
    by_metric = sorted(entries, key=lambda entry: entry.metric != leading)
    numbers = {f"{entry.metric}/{entry.method}": entry.value for entry in by_metric}
    leaders = {name: value for name, value in numbers.items() if name.split("/")[0] == leading}
    general = {f"best/{first.metric}": first.value} if first else {}
    general |= {name: value for name, value in whole.scalars.items() if "/" not in name}
    general["seconds"] = sum((manifest.get("timings") or {}).values())
    tags = whole.tags | {"hydra.overrides": " ".join(overrides), "headlight.role": "job"}
    tags |= {"headlight.best": first.method} if first else {}
    return Payload(
        whole.name, tags, _overridden_first(run.config, overrides), scalars((leaders | general | numbers).items())
    )


def _overridden_first(config: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, str]:
    """The overrides, a chosen option (`model=bert`) among them; then the configuration below them, then the rest."""
    pairs = [override.lstrip("+").partition("=") for override in overrides if "=" in override]
    chosen = {key: value for key, _, value in pairs}
    flat = dict(_flat(config))
    ordered = sorted(flat, key=lambda key: not any(f"{key}.".startswith(f"{name}.") for name in chosen))
    return parameters({**chosen, **{key: flat[key] for key in ordered}, **chosen})


def parameters(config: Mapping[str, Any]) -> dict[str, str]:
    """A nested configuration as dotted keys, at most MAX_PARAMETERS, without the ones that are not set."""
    flat = {key: value for key, value in _flat(config) if value not in (None, {}, [])}
    return {_key(key): str(value)[:_MAX_VALUE] for key, value in list(flat.items())[:MAX_PARAMETERS]}


def scalars(numbers: Iterable[tuple[str, Any]]) -> dict[str, float]:
    """The finite ones, at most MAX_SCALARS; every other number counts into `nonfinite/<first part of its name>`."""
    finite: dict[str, float] = {}
    others: dict[str, float] = {}
    for name, value in numbers:
        key = _key(name)
        if value is not None and math.isfinite(value):
            finite[key] = float(value)
        elif value is not None:
            others[f"nonfinite/{key.split('/')[0]}"] = others.get(f"nonfinite/{key.split('/')[0]}", 0.0) + 1
    kept = list(finite.items())[: MAX_SCALARS - len(others)]
    return dict(kept) | others


def _method(run: Run, label: str, entries: list[Standing], curves: list[MeanCurve]) -> Payload:
    entry, manifest = run.manifest["methods"][label], run.manifest
    params = {
        "method": entry.get("method", label),
        "class_blind": entry.get("class_blind"),
        **(entry.get("params") or {}),
    }
    params |= {
        "model": (manifest.get("model") or {}).get("name"),
        "dataset": (manifest.get("dataset") or {}).get("name"),
    }
    tags = {"headlight.method": label, "headlight.role": "control" if is_control(label, manifest) else "method"}
    own = [entry for entry in entries if entry.method == label]
    steps = {_key(f"curve/{curve.curve}"): _steps(curve) for curve in curves if curve.method == label}
    return Payload(label, tags, parameters(params), _numbers(own, MAX_SCALARS - len(steps)), steps)


def _numbers(own: list[Standing], room: int) -> dict[str, float]:
    """Values with intervals first, then differences to the controls, as far as there is room."""
    ordered = sorted(own, key=lambda entry: entry.against is not None)
    named = {name: value for entry in ordered for name, value in _named(entry)}
    undefined = {_key(f"nonfinite/{e.metric}"): float(e.n_undefined) for e in own if not e.against and e.n_undefined}
    found = scalars(named.items())
    return dict(list(found.items())[: room - len(undefined)]) | undefined


def _named(entry: Standing) -> list[tuple[str, float]]:
    name = f"{entry.metric}/over_{entry.against}" if entry.against else entry.metric
    return [(name, entry.value), (f"{name}/low", entry.low), (f"{name}/high", entry.high)]


def _steps(curve: MeanCurve) -> dict[int, float]:
    """Mean probability by level in percent."""
    points = zip(curve.levels, curve.mean, strict=True)
    return {round(100 * float(level)): float(mean) for level, mean in points if math.isfinite(mean)}


def _flat(tree: Mapping[Any, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in tree.items():
        nested = isinstance(value, Mapping) and value
        flat += _flat(value, f"{prefix}{key}.") if nested else [(f"{prefix}{key}", value)]
    return flat


def _key(name: str) -> str:
    return _FORBIDDEN.sub("_", name)
