"""`headlight table`: numbers of a sweep or a run, ready to be pasted."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

EXAMPLES = """examples:
  headlight table last                                        the latest sweep: methods x data sets
  headlight table grid --rows method --cols model --metric log_odds
  headlight table outputs/runs/sst2 --cols metric             one run: methods x metrics
  headlight table grid --rows model --cols dataset --method mask_lrp
  headlight table grid --cols evaluation.operator --format latex
  headlight table grid --ranks --expected published.csv       with mean ranks, and published numbers beside ours

Rows and columns are method, metric, model, dataset, run, or any key that the sweep varied. Where several runs or
methods fall into one cell, it holds their mean and standard deviation, and says of how many. What the table shows is
said on standard error. --expected takes a CSV file with the columns that rows and columns go by, and value:
method,dataset,value by default. Where it has a column metric, only lines of the metric shown count.
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "table",
        help="numbers of a sweep or a run as a table",
        description="Print one metric of a sweep or a run as a table.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sweep", nargs="?", default="last", metavar="SWEEP", help="a sweep, or a run; default: last")
    parser.add_argument("--rows", default="method", metavar="KEY", help="default: method")
    parser.add_argument("--cols", metavar="KEY", help="default: dataset, or metric for one run")
    parser.add_argument("--metric", metavar="ID", help="default: the leading metric")
    parser.add_argument("--method", metavar="LABEL", help="default: all of them")
    parser.add_argument("--ranks", action="store_true", help="add mean ranks over the columns")
    parser.add_argument("--expected", type=Path, metavar="FILE", help="a CSV file of numbers to show beside ours")
    parser.add_argument("--format", choices=("md", "csv", "latex"), default="md")
    parser.add_argument("--root", type=Path, default="outputs", metavar="FOLDER", help="paths.root; default: outputs")
    parser.set_defaults(command=table)


def table(arguments: argparse.Namespace) -> int:
    """Print the table."""
    from pipeline.runs import Run, resolve_run
    from pipeline.sweep.compared import with_expected, with_ranks
    from pipeline.sweep.record import find_sweep
    from pipeline.sweep.table import WRITERS, only, pivot, run_rows, sweep_rows

    sweep = find_sweep(arguments.sweep, arguments.root / "sweeps")
    if sweep is None:
        records = run_rows(Run(resolve_run(arguments.sweep, arguments.root / "runs")))
    else:
        records = sweep_rows(sweep)
    columns = arguments.cols or ("metric" if sweep is None else "dataset")
    shown = pivot(only(records, arguments.method), arguments.rows, columns, arguments.metric)
    if arguments.expected is not None:
        shown = with_expected(shown, arguments.expected, columns)
    if arguments.ranks:
        shown = with_ranks(shown)
    print(shown.title, file=sys.stderr)
    print(WRITERS[arguments.format](shown))
    return 0
