"""The report of a sweep: a table of its leading metric, and what became of each run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.files import write_atomically
from pipeline.report.html import Child, Safe, join, tag
from pipeline.report.page import document
from pipeline.sweep.job import FINISHED
from pipeline.sweep.record import SweepFolder
from pipeline.sweep.table import Pivot, Record, pivot, sweep_rows

PAGE = "report.html"
_AXES = ("dataset", "model")  # what columns are, where it was varied


def write_page(sweep: SweepFolder) -> Path:
    """Write `report.html` into the sweep's folder and return its path."""
    path = sweep.folder / PAGE
    write_atomically(path, render(sweep).encode())
    return path


def render(sweep: SweepFolder) -> str:
    """The page."""
    name = str(sweep.record["name"])
    jobs = sweep.jobs
    done = sum(job["status"] in FINISHED for job in jobs)
    header = tag(
        "header",
        tag("p", "Headlight sweep", class_="eyebrow"),
        tag("h1", name),
        tag("p", f"{done} of {len(jobs)} runs are done.", class_="finding"),
        tag("p", tag("code", "headlight run -m " + " ".join(sweep.record["overrides"])), class_="hint"),
    )
    parts = [tag("section", tag("h2", title), content) for title, content in _sections(sweep)]
    return document(f"{name} · Headlight sweep", join(header, tag("main", parts)))


def _sections(sweep: SweepFolder) -> Iterator[tuple[str, Child]]:
    records = sweep_rows(sweep)
    for table in _tables(records, sweep) if records else ():
        yield table.title, _table(table)
    yield "Runs", _runs(sweep)


def _tables(records: list[Record], sweep: SweepFolder) -> Iterator[Pivot]:
    """Methods by data set, and by whatever else was swept."""
    yield pivot(records, "method", "dataset")
    swept = dict.fromkeys(key for job in sweep.jobs for key in job["choices"])
    for key in swept:
        if key != "dataset" and any(key in record for record in records):
            yield pivot(records, "method", key)


def _table(table: Pivot) -> Safe:
    head = tag("tr", tag("th", table.corner), [tag("th", column, class_="number") for column in table.columns])
    body = [tag("tr", tag("th", row), [_cell(table, row, column) for column in table.columns]) for row in table.rows]
    return tag("div", tag("table", tag("thead", head), tag("tbody", body), class_="board"), class_="scroll")


def _cell(table: Pivot, row: str, column: str) -> Safe:
    text = table.text(row, column) or "–"
    return tag("td", tag("b", text) if table.best.get(column) == row else text, class_="number")


def _runs(sweep: SweepFolder) -> Safe:
    head = tag("tr", [tag("th", name) for name in ("run", "status", "time", "computed", "reused", "report")])
    body = [tag("tr", list(_job(job))) for job in sweep.jobs]
    return tag("div", tag("table", tag("thead", head), tag("tbody", body), class_="board"), class_="scroll")


def _job(job: Record) -> Iterator[Safe]:
    yield tag("td", " ".join(f"{key}={value}" for key, value in job["choices"].items()) or job["name"])
    yield tag("td", str(job["status"]), tag("small", job["error"]) if job["error"] else None)
    yield tag("td", f"{job['seconds']:.0f} s" if job["seconds"] else "–")
    for count in ("computed", "reused"):
        yield tag("td", str(sum(stage[count] for stage in job["reuse"].values())), class_="number")
    yield tag("td", tag("a", "report", href=f"{job['folder']}/report.html") if job["folder"] else "–")
