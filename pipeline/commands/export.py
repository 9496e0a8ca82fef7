"""`headlight export`: a run in a format of others."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipeline.commands.results import RUN_HELP

EPILOG = """example:
  headlight export last --format eraser --out movies --method gradcam
  python rationale_benchmark/metrics.py --data_dir movies --split test --results movies/results/gradcam.jsonl
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    summary = "write the explanations of a run in another format"
    parser = commands.add_parser(
        "export",
        help=summary,
        description=summary.capitalize() + ".",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", nargs="?", default="last", metavar="RUN", help=f"{RUN_HELP}; default: last")
    parser.add_argument("--format", choices=("eraser",), default="eraser", help="default: eraser")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the files go")
    parser.add_argument("--method", action="append", default=[], metavar="LABEL", help="default: all; repeatable")
    parser.add_argument("--root", type=Path, default="outputs", metavar="FOLDER", help="paths.root; default: outputs")
    parser.set_defaults(command=export)


def export(arguments: argparse.Namespace) -> int:
    """Write the files and print where they are."""
    from pipeline.eraser import export_eraser
    from pipeline.runs import Run, resolve_run

    run = Run(resolve_run(arguments.run, Path(arguments.root / "runs")))
    for path in export_eraser(run, arguments.out, arguments.method):
        print(path)
    return 0
