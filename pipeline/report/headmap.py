"""Which heads play a role: a grid of layers by heads, and the same as a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from attribution.heads.roles import IMPORTANCE
from pipeline.report.html import Safe, data_script, interval, join, number, tag

Row = Mapping[str, Any]  # of the run table `heads`
_SHORT = {"positional": "pos", "syntactic": "syn"}


def head_map(rows: list[Row], n_layers: int, n_heads: int) -> Safe:
    """The grid with a switch between roles, and the table of selected heads."""
    cells: dict[tuple[int, int], list[Row]] = {}
    for row in rows:
        cells.setdefault((row["layer"], row["head"]), []).append(row)
    head = tag("tr", tag("td"), [tag("th", str(head), scope="col") for head in range(n_heads)])
    body = [
        tag("tr", tag("th", str(layer), scope="row"), [_cell(cells.get((layer, head), [])) for head in range(n_heads)])
        for layer in range(n_layers)
    ]
    caption = tag("caption", "rows: layers, columns: heads, both from 0")
    grid = tag("table", caption, tag("thead", head), tag("tbody", body), class_="heads", id="heads")
    hint = tag("p", "Point at a head to see its roles.", class_="hint", id="head-detail", aria_live="polite")
    return join(
        _switch(rows),
        tag("div", grid, class_="scroll"),
        hint,
        _legend(),
        _table(rows),
        _scores(rows, n_layers, n_heads),
    )


def role_name(role: str) -> str:
    """`syntactic:nsubj:dep->head` as nsubj: dep → head, `positional:-1` as position −1, `sink:cls` as sink cls."""
    kind, _, rest = role.partition(":")
    if kind == "positional":
        return f"position {rest.replace('-', '−')}"
    if kind != "syntactic":
        return role.replace(":", " ").replace("_", " ")
    return rest.replace(":", ": ").replace("->", " → ")


def _switch(rows: Iterable[Row]) -> Safe:
    roles = [tag("option", role_name(role), value=role) for role in dict.fromkeys(row["role"] for row in rows)]
    select = tag("select", tag("option", "selected heads", value=""), roles, id="head-role")
    return tag("p", tag("label", "Show ", select), class_="controls")


def _legend() -> Safe:
    entries = (("pos", "positional"), ("syn", "syntactic"), ("pos syn", "both"))
    keys = [tag("span", tag("i", class_=f"swatch {kind}"), f" {name}") for kind, name in entries]
    return tag("p", keys, class_="hint keys")


def _cell(rows: list[Row]) -> Safe:
    chosen = [row for row in rows if row["selected"]]
    kinds = sorted({_SHORT.get(row["role"].split(":")[0], "other") for row in chosen})
    words = " ".join(dict.fromkeys(short_name(row["role"]) for row in chosen))
    played = [row for row in rows if not row["role"].startswith(IMPORTANCE)]
    details = [_sentence(row) for row in sorted(played, key=lambda row: (not row["selected"], -row["score"]))[:6]]
    place = f"layer {rows[0]['layer']}, head {rows[0]['head']}: " if rows else ""
    detail = place + "; ".join(details)
    return tag(
        "td", tag("span", words), class_=" ".join(kinds) or None, data_detail=detail, tabindex=0 if chosen else None
    )


def short_name(role: str) -> str:
    """Short enough for a cell: −1, nsubj."""
    kind, _, rest = role.partition(":")
    if kind == "syntactic":
        return rest.split(":")[0]
    return rest.replace("-", "−") if kind == "positional" else rest or kind


def _sentence(row: Row) -> str:
    chosen = ", selected" if row["selected"] else ""
    return f"{role_name(row['role'])} {number(row['score'], 2)} (baseline {number(row['baseline'], 2)}{chosen})"


def _table(rows: Iterable[Row]) -> Safe:
    chosen = [row for row in rows if row["selected"]]
    if not chosen:
        return tag("p", "No head was selected.", class_="hint")
    names = ("Role", "Layer", "Head", "Score", "95 % interval", "Baseline", "Report split", "Cases")
    head = tag("tr", [tag("th", name, scope="col", class_=None if name == "Role" else "number") for name in names])
    ordered = sorted(chosen, key=lambda row: (row["role"], -row["score"]))
    table = tag("table", tag("thead", head), tag("tbody", [_selected(row) for row in ordered]), class_="plain")
    summary = tag("summary", f"{len(chosen)} selected roles of heads as a table")
    return tag("details", summary, tag("div", table, class_="scroll"), open=len(chosen) <= 12)


def _selected(row: Row) -> Safe:
    numbers = (
        str(row["layer"]),
        str(row["head"]),
        number(row["score"]),
        interval(row["low"], row["high"]),
        number(row["baseline"]),
        number(row["report_score"]),
        str(row["count"]),
    )
    return tag(
        "tr", tag("th", role_name(row["role"]), scope="row"), [tag("td", cell, class_="number") for cell in numbers]
    )


def _scores(rows: Iterable[Row], n_layers: int, n_heads: int) -> Safe:
    """Role -> [L][H] for the switch; importances as shares of the largest."""
    rows = [row for row in rows if math.isfinite(row["score"])]
    largest: dict[str, float] = {}
    for row in rows:
        own = abs(row["score"]) if row["role"].startswith(IMPORTANCE) else 1.0
        largest[row["role"]] = max(own, largest.get(row["role"], 0.0))
    scores: dict[str, list[list[float | None]]] = {}
    for row in rows:
        grid = scores.setdefault(row["role"], [[None] * n_heads for _ in range(n_layers)])
        grid[row["layer"]][row["head"]] = round(row["score"] / (largest[row["role"]] or 1.0), 3)
    return data_script(scores, id="head-scores")
