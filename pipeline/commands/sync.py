"""`headlight sync`: runs that ended without MLflow are recorded there."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

EXAMPLES = """examples:
  headlight sync last --to http://mlflow.example:5000
  headlight sync demo sst2 outputs/runs/squad       (to where each run says, or MLFLOW_TRACKING_URI)
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    summary = "send the record of runs to MLflow that could not be sent, or were run with tracking=offline"
    parser = commands.add_parser(
        "sync",
        help=summary,
        description=summary.capitalize() + ". Sending a record again adds nothing.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", nargs="+", metavar="RUN", help="a folder, a name, an id, or `last`; or a sweep's folder")
    parser.add_argument("--to", metavar="URI", help="an MLflow server, or sqlite:///FILE.db")
    parser.add_argument("--root", type=Path, default="outputs", metavar="FOLDER", help="paths.root; default: outputs")
    parser.set_defaults(command=sync)


def sync(arguments: argparse.Namespace) -> int:
    """Send one after another; the first that cannot be sent ends it, and what was sent is not sent again."""
    from pipeline.runs import resolve_run
    from pipeline.tracking.sweep import SPOOL
    from pipeline.tracking.sync import sync as send

    for name in arguments.run:
        given = Path(name).expanduser()
        folder = given if (given / SPOOL).exists() else resolve_run(name, arguments.root / "runs")
        print(f"{folder}: {send(folder, arguments.root, arguments.to)}", flush=True)
    return 0
