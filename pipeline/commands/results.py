"""`headlight report`, `runs` and `diff`: what earlier runs left behind."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from pipeline.commands.tables import aligned

RUN_HELP = "a folder, a name, an id, `last`, or `champion`"
COLUMNS = ("name", "status", "created", "model", "dataset", "n", "best", "metric", "value")


def add(commands: Any) -> None:
    """Add the three commands to the parser."""
    report_parser = _add(commands, "report", "write the report of a run again and print its path", report)
    report_parser.add_argument("run", nargs="?", default="last", metavar="RUN", help=f"{RUN_HELP}; default: last")
    report_parser.add_argument("--texts", choices=("full", "sample", "none"), help="default: as the run was configured")
    more = "short texts of which the page has the attention of every head; default: as the run was configured"
    report_parser.add_argument("--attention", type=int, metavar="N", help=more)
    runs_parser = _add(commands, "runs", "list the runs, newest first", runs)
    runs_parser.add_argument("--json", action="store_true", help="for programs")
    diff_parser = _add(commands, "diff", "explain how two runs differ: configuration, versions, data, results", diff)
    diff_parser.add_argument("a", metavar="RUN", help=RUN_HELP)
    diff_parser.add_argument("b", metavar="RUN", help=RUN_HELP)
    diff_parser.add_argument("--json", action="store_true", help="for programs")


def _add(commands: Any, name: str, summary: str, command: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary.capitalize() + ".")
    parser.add_argument("--root", type=Path, default="outputs", metavar="FOLDER", help="paths.root; default: outputs")
    parser.set_defaults(command=command)
    return parser


def report(arguments: argparse.Namespace) -> int:
    """Write report.html from the run's tables."""
    from attribution.errors import InputError
    from pipeline.report import build_report
    from pipeline.runs import Run, resolve_run

    folder = resolve_run(arguments.run, _runs(arguments))
    given = {name: value for name in ("texts", "attention") if (value := getattr(arguments, name)) is not None}
    settings = {"texts": "full", "examples": 30, "attention": 0, **Run(folder).config.get("report", {}), **given}
    if settings["attention"] < 0:
        raise InputError(
            f"error: --attention {settings['attention']} must be at least 0; it is how many texts are shown."
        )
    print(build_report(folder, **settings))
    return 0


def runs(arguments: argparse.Namespace) -> int:
    """Print one row for each run."""
    from pipeline.runs import list_runs

    rows = list_runs(_runs(arguments))
    if arguments.json:
        print(json.dumps(rows, indent=2, default=str))
    elif rows:
        print(aligned([name.upper() for name in COLUMNS], [[_cell(row[name]) for name in COLUMNS] for row in rows]))
    else:
        print(f"no runs in {_runs(arguments)}; `headlight run experiment=demo` makes one")
    return 0


def diff(arguments: argparse.Namespace) -> int:
    """Print what differs; 0 also where something does."""
    from pipeline.diff import diff_runs
    from pipeline.runs import resolve_run

    folders = [resolve_run(name, _runs(arguments)) for name in (arguments.a, arguments.b)]
    difference = diff_runs(*folders)
    print(difference.to_json() if arguments.json else difference.to_text())
    return 0


def _runs(arguments: argparse.Namespace) -> Path:
    return Path(arguments.root / "runs")


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
