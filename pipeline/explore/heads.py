"""What the map of layers by heads can show: scores of the run, and what the survey of its texts adds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from attribution.heads.importance_methods import IMPORTANCES
from attribution.heads.maps import offset_profile
from attribution.heads.roles import IMPORTANCE
from pipeline.explore.passes import Survey
from pipeline.report.headmap import role_name
from pipeline.runs import Run

REACH = 10  # offsets to either side that a head's histogram shows
Row = Mapping[str, Any]


def metrics_of(run: Run, shape: tuple[int, int]) -> list[dict[str, Any]]:
    """Scores of the run's own tables."""
    tables = (_roles(run.table("heads").to_pylist()), _relevance(run.table("patterns").to_pylist()))
    return [_metric(shape, *found) for each in tables for found in each]


def breadth_metrics(survey: Survey) -> list[dict[str, Any]]:
    """How broad each head attends on the texts that are looked at."""
    return [
        metric("attention", f"text:{name}", name.replace("_", " "), values, IMPORTANCES[name].source)
        for name, values in survey.breadth.items()
    ]


def metric(group: str, name: str, label: str, values: Tensor, note: str = "") -> dict[str, Any]:
    """A score of every head [L, H]."""
    return {"group": group, "id": name, "label": label, "values": grid(values), "selected": None, "note": note}


def grid(values: Tensor) -> list[list[float | None]]:
    """[L, H] as JSON has it: null where undefined."""
    return [[finite(value) for value in row] for row in values.tolist()]


def finite(value: float | None) -> float | None:
    """Six significant digits; None where undefined."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def offsets(survey: Survey) -> dict[str, Any]:
    """Mean weight at each offset, [L][H][2R + 1]."""
    profile = offset_profile(survey.maps, REACH)
    return {"reach": REACH, "values": [grid(layer) for layer in profile]}


def _roles(rows: Iterable[Row]) -> Iterator[tuple[str, str, str, list[Row], str]]:
    for role, own in _grouped(rows, "role").items():
        kind = "importance" if role.startswith(IMPORTANCE) else "role"
        label = role.partition(":")[2].replace("_", " ") if kind == "importance" else role_name(role)
        counted = "texts" if kind == "importance" else "cases"
        note = f"{own[0]['count']} {counted}."
        yield kind, f"run:{role}", label, [{**row, "value": row["score"]} for row in own], note


def _relevance(rows: Iterable[Row]) -> Iterator[tuple[str, str, str, list[Row], str]]:
    paper = [row for row in rows if row["queries"] == "all"]
    for pattern, own in _grouped(paper, "pattern").items():
        values: list[Row] = [{**row, "value": row["relevance"], "selected": row["significant"]} for row in own]
        note = f"Even attention {own[0]['uniform']:.3f}; {own[0]['documents']} texts."
        yield "relevance", f"pattern:{pattern}", f"relevance of {pattern}", values, note


def _grouped(rows: Iterable[Row], column: str) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row[column], []).append(row)
    return found


def _metric(
    shape: tuple[int, int], group: str, name: str, label: str, rows: Iterable[Row], note: str
) -> dict[str, Any]:
    values: list[list[float | None]] = [[None] * shape[1] for _ in range(shape[0])]
    chosen = [[False] * shape[1] for _ in range(shape[0])]
    for row in rows:
        values[row["layer"]][row["head"]] = finite(row["value"])
        chosen[row["layer"]][row["head"]] = bool(row["selected"])
    return {"group": group, "id": name, "label": label, "values": values, "selected": chosen, "note": note}
