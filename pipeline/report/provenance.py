"""Where the numbers come from: model, data, versions, seeds, reuse, timings, configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.report.html import Child, Safe, join, number, tag
from pipeline.runs import CONFIG, Run

_HASH = 12  # characters of a fingerprint that are shown


def provenance(run: Run) -> Safe:
    """All of it, the long parts closed."""
    manifest = run.manifest
    facts = [
        ("Model", _model(manifest.get("model") or {})),
        ("Data", _data(manifest.get("dataset") or {})),
        ("Environment", _pairs(manifest.get("environment") or {}, leave=("versions",))),
        ("Versions", _pairs((manifest.get("environment") or {}).get("versions") or {})),
        ("Seeds", _pairs(manifest.get("seeds") or {})),
        ("Run", _pairs({key: manifest.get(key) for key in ("run_id", "created", "finished", "schema_version")})),
        ("MLflow", _pairs(manifest.get("tracking") or {}, leave=("waiting", "sweep"))),
    ]
    listed = tag("dl", [join(tag("dt", name), tag("dd", text)) for name, text in facts if text], class_="facts")
    return join(listed, _stages(manifest), _sources(manifest), _configuration(run))


def _model(model: Mapping[str, Any]) -> str:
    shape = f"{model.get('n_layers')} layers of {model.get('n_heads')} heads"
    parts = (model.get("name"), model.get("id"), model.get("revision"), model.get("architecture"), shape, _short(model))
    return _listed(parts)


def _data(data: Mapping[str, Any]) -> str:
    return _listed((data.get("name"), data.get("split"), f"{data.get('n')} examples", _short(data)))


def _short(part: Mapping[str, Any]) -> str | None:
    fingerprint = part.get("fingerprint")
    return f"fingerprint {str(fingerprint)[:_HASH]}" if fingerprint else None


def _listed(parts: Iterable[Any]) -> str:
    return ", ".join(str(part) for part in dict.fromkeys(parts) if part)


def _pairs(mapping: Mapping[str, Any], leave: tuple[str, ...] = ()) -> str:
    return ", ".join(f"{key} {value}" for key, value in mapping.items() if value is not None and key not in leave)


def _stages(manifest: Mapping[str, Any]) -> Child:
    """Seconds by stage, and how much was computed and reused."""
    timings, reuse = manifest.get("timings") or {}, manifest.get("reuse") or {}
    names = list(dict.fromkeys([*timings, *reuse]))
    if not names:
        return None
    head = tag(
        "tr",
        tag("th", "Stage", scope="col"),
        [tag("th", name, scope="col", class_="number") for name in ("seconds", "computed", "reused")],
    )
    rows = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            [tag("td", cell, class_="number") for cell in _stage(timings.get(name), reuse.get(name) or {})],
        )
        for name in names
    ]
    return tag("div", tag("table", tag("thead", head), tag("tbody", rows), class_="plain"), class_="scroll")


def _stage(seconds: float | None, reuse: Mapping[str, Any]) -> list[str]:
    return [number(seconds, 1), *(str(reuse.get(key, "–")) for key in ("computed", "reused"))]


def _sources(manifest: Mapping[str, Any]) -> Child:
    """Where each method was published."""
    methods = manifest.get("methods") or {}
    published = dict.fromkeys(
        (str(entry.get("method")), str(entry.get("source"))) for entry in methods.values() if entry.get("source")
    )
    items = [tag("li", tag("b", method), f": {source}") for method, source in published]
    return tag("details", tag("summary", "Where the methods come from"), tag("ul", items)) if items else None


def _configuration(run: Run) -> Child:
    path = run.folder / CONFIG
    if not path.exists():
        return None
    return tag("details", tag("summary", "Configuration"), tag("pre", path.read_text("utf-8")))
