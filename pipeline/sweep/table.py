"""Numbers of many runs in one table: rows and columns as asked, intervals in the cells."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from attribution.errors import InputError
from pipeline.runs import Run
from pipeline.standing import higher_is_better, leading_metric
from pipeline.sweep.record import SweepFolder

Record = dict[str, Any]  # run, method, metric, value, low, high, n, model, dataset, and what was swept
FORMATS = ("md", "csv", "latex")


@dataclass(frozen=True)
class Entry:
    """A cell of a table: one mean with its interval, or that of several runs or methods with their deviation."""

    value: float
    low: float | None = None
    high: float | None = None
    deviation: float | None = None
    runs: int = 1
    methods: int = 1
    expected: float | None = None  # what it is compared with

    @property
    def text(self) -> str:
        """`0.540 [0.522, 0.558]`, or `0.540 ± 0.010 (3 runs)`; with `expected 0.550` behind it where that is known."""
        return self._own if self.expected is None else f"{self._own}, expected {self.expected:.3f}"

    @property
    def _own(self) -> str:
        if self.deviation is not None:
            counts = [
                f"{count} {noun}" for count, noun in ((self.methods, "methods"), (self.runs, "runs")) if count > 1
            ]
            return f"{self.value:.3f} ± {self.deviation:.3f} ({' in '.join(counts)})"
        bounds = f" [{self.low:.3f}, {self.high:.3f}]" if self.low is not None and self.high is not None else ""
        return f"{self.value:.3f}{bounds}"


@dataclass(frozen=True)
class Pivot:
    """A table of entries; a missing one was not measured."""

    title: str
    corner: str
    rows: list[str]
    columns: list[str]
    entries: dict[tuple[str, str], Entry]
    higher: dict[str, bool]  # column -> whether higher is better; only of columns of one metric that has a direction
    metric: str | None = None  # that it is of; None of several

    @property
    def best(self) -> dict[str, str]:
        """Column -> its best row, where it has several."""
        found = {}
        for column, higher in self.higher.items():
            held = {row: entry.value for (row, name), entry in self.entries.items() if name == column}
            if len(held) > 1:
                found[column] = (max if higher else min)(held, key=lambda row: held[row])
        return found

    def text(self, row: str, column: str) -> str:
        """What stands in a cell."""
        entry = self.entries.get((row, column))
        return entry.text if entry else ""


def sweep_rows(sweep: SweepFolder) -> list[Record]:
    """A record for each method and metric of every run of a sweep."""
    return [
        {**job["choices"], **record}
        for job in sweep.jobs
        if (run := sweep.run_of(job)) is not None
        for record in run_rows(run)
    ]


def run_rows(run: Run) -> list[Record]:
    """A record for each method and metric of a run."""
    about: Record = {"run": run.folder.name}
    about |= {name: (run.manifest.get(name) or {}).get("name") for name in ("model", "dataset")}
    kept = ("method", "metric", "value", "low", "high", "n")
    rows = run.table("metrics").to_pylist()
    return [{**about, **{key: row[key] for key in kept}} for row in rows if row["against"] is None]


def only(records: Sequence[Record], method: str | None) -> list[Record]:
    """The records of one method, or all of them."""
    if method is not None:
        _require("--method", method, [record["method"] for record in records])
    return [record for record in records if method in (None, record["method"])]


def pivot(records: Sequence[Record], rows: str, columns: str, metric: str | None = None) -> Pivot:
    """The table of a metric, or of all metrics where these are its rows or columns."""
    for name in (rows, columns):
        _require("--rows/--cols", name, [key for record in records for key in record if key not in _NUMBERS])
    shown, chosen, title = None, list(records), f"all metrics, {rows} by {columns}"
    if "metric" not in (rows, columns):
        metrics = list(dict.fromkeys(record["metric"] for record in records))
        metric = metric or leading_metric(metrics)
        _require("--metric", str(metric), metrics)
        shown = metric
        chosen, title = [record for record in records if record["metric"] == metric], f"{metric}, {rows} by {columns}"
    return replace(_arranged(chosen, rows, columns, title), metric=shown)


_NUMBERS = ("value", "low", "high", "n")


def _require(option: str, value: str, choices: Iterable[str]) -> None:
    known = list(dict.fromkeys(choices))
    if value not in known:
        raise InputError(f"error: {option} {value} is not in these runs. Choose one of {', '.join(known)}.")


def _arranged(records: Sequence[Record], rows: str, columns: str, title: str) -> Pivot:
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((str(record.get(rows, "")), str(record.get(columns, ""))), []).append(record)
    entries = {place: entry for place, group in groups.items() if (entry := _entry(group)) is not None}
    names = list(dict.fromkeys(column for _, column in groups))
    order = list(dict.fromkeys(row for row, _ in groups))
    return Pivot(title, rows, order, names, entries, dict(_directions(records, names, columns)))


def _entry(group: Sequence[Record]) -> Entry | None:
    finite = [record for record in group if record["value"] is not None and math.isfinite(record["value"])]
    if len(finite) < 2:
        return Entry(finite[0]["value"], finite[0]["low"], finite[0]["high"]) if finite else None
    values = [record["value"] for record in finite]
    runs, methods = (len({record[name] for record in finite}) for name in ("run", "method"))
    return Entry(fmean(values), deviation=stdev(values), runs=runs, methods=methods)


def _directions(records: Sequence[Record], names: Sequence[str], columns: str) -> Iterator[tuple[str, bool]]:
    for name in names:
        metrics = {record["metric"] for record in records if str(record.get(columns, "")) == name}
        if len(metrics) == 1 and (direction := higher_is_better(metrics.pop())) is not None:
            yield name, direction


def markdown(table: Pivot) -> str:
    """A GitHub table; the best of each column is bold."""
    lines = [
        [table.corner, *table.columns],
        ["---"] * (len(table.columns) + 1),
        *([f"`{row}`", *(_bold(table, row, column) for column in table.columns)] for row in table.rows),
    ]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _bold(table: Pivot, row: str, column: str) -> str:
    text = table.text(row, column)
    return f"**{text}**" if table.best.get(column) == row else text


def comma_separated(table: Pivot) -> str:
    """One line for each entry with full numbers, for programs."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    compared = any(entry.expected is not None for entry in table.entries.values())
    numbers = ("value", "low", "high", "deviation", "methods", "runs", *(["expected"] if compared else []))
    writer.writerow([table.corner, "column", *numbers])
    for (row, column), entry in table.entries.items():
        writer.writerow([row, column, *(getattr(entry, name) for name in numbers)])
    return out.getvalue().rstrip("\n")


def latex(table: Pivot) -> str:
    """A booktabs table."""
    head = " & ".join(map(_tex, [table.corner, *table.columns])) + r" \\"
    body = [" & ".join([_tex(row), *(_tex_cell(table, row, c) for c in table.columns)]) + r" \\" for row in table.rows]
    columns = "l" + "r" * len(table.columns)
    return "\n".join(
        [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
    )


def _tex_cell(table: Pivot, row: str, column: str) -> str:
    text = _tex(table.text(row, column)).replace("±", r"$\pm$").replace("-", "$-$")
    return rf"\textbf{{{text}}}" if table.best.get(column) == row else text


_TEX = str.maketrans({c: rf"\{c}" for c in "&%$#_{}"} | {"~": r"\~{}", "^": r"\^{}", "\\": r"\textbackslash{}"})


def _tex(text: str) -> str:
    return text.translate(_TEX)


WRITERS: dict[str, Callable[[Pivot], str]] = dict(zip(FORMATS, (markdown, comma_separated, latex), strict=True))
