"""Where in the model token-to-token methods find the cues: maps of methods by layers, and the probes beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.mixing import ALL, CHANCE
from pipeline.report.html import Child, Safe, interval, number, tag

Row = Mapping[str, Any]
PARADIGMS = {
    ALL: "all paradigms",
    "ana": "anaphor and its subject",
    "dna": "determiner and noun",
    "dnaa": "determiner and noun, an adjective between",
    "darn": "verb and noun, a distractor between",
    "rpsv": "verb and subject",
}
_METRICS = {"dot_product": "dot product", "average_precision": "average precision"}
_VIEWS = {"layer": "each layer alone", "rollout": "rolled out up to each layer"}
_HINT = (
    "How far the row of the masked word points at the words that decide its form: the share of its scores on them (dot "
    "product), and their place in its ranking (average precision). Darker is more; chance is what equal scores, or "
    "random rankings, reach. Columns are layers, from 1."
)
_PROBES = (
    "How many times shorter the online code of right singular and plural forms gets by the hidden state of the masked "
    "word: 1 is nothing learned. Strict: in bits throughout. Reference: as the Value Zeroing code counts, a second "
    "softmax and nats after the first block. Layer 0 are the embeddings."
)
_PROFILES = "Rank correlation over the layers between a method's mean alignment and the compression of the probes."


def alignment(means: pa.Table, probes: pa.Table, profiles: pa.Table) -> Child:
    """Maps, probes and how they go together; None where nothing was asked of masked words."""
    rows = means.to_pylist()
    if not rows and not probes.num_rows:
        return None
    parts: list[Child] = []
    if rows:
        parts += [tag("p", _HINT, class_="hint"), [_maps(rows, metric, view) for metric in _METRICS for view in _VIEWS]]
    if probes.num_rows:
        parts += [tag("h3", "Probes"), tag("p", _PROBES, class_="hint"), _probes(probes.to_pylist())]
    if profiles.num_rows:
        parts += [tag("p", _PROFILES, class_="hint"), _profiles(profiles.to_pylist())]
    return parts


def _maps(rows: Iterable[Row], metric: str, view: str) -> Safe:
    """The maps of one metric and view, one for each paradigm; the first ones are open."""
    own = [row for row in rows if row["metric"] == metric and (row["view"] == view or row["method"] == CHANCE)]
    groups = list(dict.fromkeys(row["group"] for row in own))
    figures = [_map([row for row in own if row["group"] == group], group) for group in groups]
    summary = tag("summary", f"{_METRICS[metric].capitalize()}, {_VIEWS[view]}")
    return tag("details", summary, tag("div", figures, class_="maps"), open=view == "layer")


def _map(rows: list[Row], group: str) -> Safe:
    """One paradigm: methods by layers."""
    chance = next(row for row in rows if row["method"] == CHANCE)
    cells = {(row["method"], row["layer"]): row for row in rows if row is not chance}
    layers = sorted({layer for _, layer in cells})
    head = tag("tr", tag("td"), [tag("th", str(layer), scope="col") for layer in layers])
    body = [
        tag("tr", tag("th", label, scope="row"), [_cell(cells.get((label, layer))) for layer in layers])
        for label in dict.fromkeys(label for label, _ in cells)
    ]
    examples = f"{chance['n'] + chance['n_undefined']:,} examples"
    caption = tag(
        "caption", tag("b", PARADIGMS.get(group, group)), f" · {examples} · chance {number(chance['value'], 2)}"
    )
    table = tag("table", caption, tag("thead", head), tag("tbody", body), class_="heads scored")
    return tag("div", table, class_="scroll")


def _cell(row: Row | None) -> Safe:
    if row is None or not np.isfinite(row["value"]):
        return tag("td", "–")
    left_out = f", {row['n_undefined']} undefined" if row["n_undefined"] else ""
    hint = f"{number(row['value'])} {interval(row['low'], row['high'])}{left_out}"
    return tag("td", number(row["value"], 2), style=f"--share:{row['value']:.3f}", title=hint)


def _probes(rows: list[Row]) -> Safe:
    layers = sorted({row["layer"] for row in rows})
    cells = {(row["form"], row["layer"]): number(row["compression"], 2) for row in rows}
    forms = list(dict.fromkeys(row["form"] for row in rows))
    body = [[form, *(cells[form, layer] for layer in layers)] for form in forms]
    return _table(["Layer", *map(str, layers)], body)


def _profiles(rows: list[Row]) -> Safe:
    columns = list(dict.fromkeys((row["view"], row["metric"], row["form"]) for row in rows))
    cells = {(row["method"], row["view"], row["metric"], row["form"]): number(row["spearman"], 2) for row in rows}
    heads = [f"{_METRICS[metric]}, {view}, {form}" for view, metric, form in columns]
    labels = list(dict.fromkeys(row["method"] for row in rows))
    body = [[label, *(cells[label, *column] for column in columns)] for label in labels]
    return _table(["Method", *heads], body)


def _table(heads: list[str], body: list[list[str]]) -> Safe:
    """A plain table; what stands first in a row is its name."""
    head = tag(
        "tr", tag("th", heads[0], scope="col"), [tag("th", each, scope="col", class_="number") for each in heads[1:]]
    )
    rows = [
        tag("tr", tag("th", row[0], scope="row"), [tag("td", cell, class_="number") for cell in row[1:]])
        for row in body
    ]
    return tag("div", tag("table", tag("thead", head), tag("tbody", rows), class_="plain"), class_="scroll")
