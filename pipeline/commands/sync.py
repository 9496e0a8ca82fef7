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
    parser.add_argument("run", nargs="+", metavar="RUN", help="a folder, a name, an id, or `last`; also of a sweep")
    parser.add_argument("--to", metavar="URI", help="an MLflow server, or sqlite:///FILE.db")
    parser.add_argument("--root", type=Path, default="outputs", metavar="FOLDER", help="paths.root; default: outputs")
    parser.set_defaults(command=sync)


def sync(arguments: argparse.Namespace) -> int:
    """Send one after another; the first that cannot be sent ends it, and what was sent is not sent again."""
    from pipeline.tracking.sync import sync as send

    for name in arguments.run:
        folder = _folder(name, arguments.root)
        print(f"{folder}: {send(folder, arguments.root, arguments.to)}", flush=True)
    return 0


def _folder(name: str, root: Path) -> Path:
    """Of a run, or of a sweep."""
    from pipeline.runs import MANIFEST, resolve_run
    from pipeline.tracking.sweep import SPOOL

    places = (Path(name).expanduser(), root / "runs" / name, root / "sweeps" / name)
    known = (place for place in places if (place / SPOOL).is_file() or (place / MANIFEST).is_file())
    return next(known, None) or resolve_run(name, root / "runs")
