"""Layers decoded to words: what was decoded with, how much of the texts it recovers, and maps before and after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from attribution.methods.registry import METHODS
from attribution.rendering import html_fragment
from pipeline.conservation import named_facts
from pipeline.report.html import Child, Safe, number, tag
from pipeline.report.texts import Texts

METHOD = "decoded_layer"
COLUMNS = ["method", "facts"]
LOW = 0.5  # recovery below which decoded maps are not to be relied on
SHOWN = 8  # texts with their maps side by side
RECOVERIES = {
    "recovery": "positions that decode to a word of the text",
    "salient_recovery": "saliency at positions that decode to their own word",
    "salient_first": "saliency at positions whose own word comes first",
}
_HINT = (
    f"{METHOD} is {METHODS[METHOD].source}: saliency of a layer's positions, read as words by a language-model head. "
    "Among the ten highest-ranked words; where only the text's words are ranked, the first."
)


def decoded(manifest: Mapping[str, Any], attributions: pa.Table, data: Texts, texts: str) -> Child:
    """The section of a run with the method; None for any other."""
    methods = {label: _parameters(entry) for label, entry in _entries(manifest)}
    if not methods:
        return None
    head = (manifest.get("model") or {}).get("lm_head") or "none: raw maps alone"
    means = _means(attributions, list(methods))
    pairs = [] if texts == "none" else _pairs(methods, data)
    return [
        tag("p", _HINT, class_="hint"),
        tag("p", tag("b", "Decoded with: "), f"{head}."),
        [tag("p", warning, class_="warning", role="note") for warning in _warnings(methods, means)],
        _table(methods, means),
        pairs,
    ]


def _entries(manifest: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    listed = manifest.get("methods") or {}
    return [(label, entry) for label, entry in listed.items() if entry.get("method") == METHOD]


def _parameters(entry: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {"chosen": entry["layer"]} if "layer" in entry else {}
    return {**METHODS[METHOD].parameters, **(entry.get("params") or {}), **chosen}


def _layer(given: Mapping[str, Any]) -> str:
    if "chosen" in given:
        return f"{given['chosen']}, chosen"
    return "last" if given["layer"] is None else str(given["layer"])


def _means(attributions: pa.Table, labels: Sequence[str]) -> dict[str, dict[str, float]]:
    """Method -> recovery by name, over the texts where it is defined."""
    found: dict[str, dict[str, list[float]]] = {label: {} for label in labels}
    for label, facts in zip(attributions["method"].to_pylist(), attributions["facts"].to_pylist(), strict=True):
        for name, value in named_facts(facts).items() if label in found else ():
            if value is not None and np.isfinite(value):
                found[label].setdefault(name, []).append(value)
    return {label: {name: float(np.mean(each)) for name, each in facts.items()} for label, facts in found.items()}


def _warnings(methods: Mapping[str, Mapping[str, Any]], means: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    for label in methods:
        low = {name: value for name, value in means[label].items() if name in RECOVERIES and value < LOW}
        if low:
            said = ", ".join(f"{value:.0%} of {RECOVERIES[name]}" for name, value in low.items())
            yield f"Low recovery: {label} reads few words of the texts ({said}); look at the raw map or another layer."


def _table(methods: Mapping[str, Mapping[str, Any]], means: Mapping[str, Mapping[str, float]]) -> Safe:
    headings = ["layer", "saliency", "aggregate", *RECOVERIES.values()]
    head = tag("tr", tag("th", "Method", scope="col"), [tag("th", heading, scope="col") for heading in headings])
    rows = [
        tag(
            "tr",
            tag("th", label, scope="row"),
            tag("td", _layer(given)),
            [tag("td", str(given[name])) for name in ("saliency", "aggregate")],
            [tag("td", number(means[label].get(name)), class_="number") for name in RECOVERIES],
        )
        for label, given in methods.items()
    ]
    return tag("div", tag("table", tag("thead", head), tag("tbody", rows), class_="plain"), class_="scroll")


def _pairs(methods: Mapping[str, Mapping[str, Any]], data: Texts) -> Child:
    """Raw and decoded maps of the same layer and saliency, text by text."""
    raw = {(m["layer"], m["saliency"]): label for label, m in methods.items() if m["aggregate"] == "raw"}
    decoded = [
        (raw[site], label)
        for label, m in methods.items()
        if m["aggregate"] != "raw" and (site := (m["layer"], m["saliency"])) in raw
    ]
    return [_side_by_side(before, after, data) for before, after in decoded]


def _side_by_side(before: str, after: str, data: Texts) -> Safe:
    columns = [data.scores.get(label, {}) for label in (before, after)]
    rows = [
        tag("tr", [tag("td", Safe(html_fragment(pieces, scores[row["item_id"]].tolist()))) for scores in columns])
        for row, pieces in zip(data.examples, data.pieces, strict=True)
        if all(len(scores.get(row["item_id"], ())) == len(pieces) for scores in columns)
    ]
    head = tag("tr", tag("th", f"raw: {before}", scope="col"), tag("th", f"decoded: {after}", scope="col"))
    return tag(
        "div", tag("table", tag("thead", head), tag("tbody", rows[:SHOWN]), class_="plain maps"), class_="scroll"
    )
