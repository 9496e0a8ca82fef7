"""`headlight verify`: whether a run is what it says it is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipeline.commands.results import RUN_HELP

EPILOG = """Files of the run and results in its store are compared with their hashes; a few of the examples are then
predicted and explained again, on this machine, and compared within the tolerance of each method. Nothing is changed.

exit codes: 0 all of it is as it should be   1 something is wrong
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    summary = "check the files and results of a run, and compute some of it again"
    parser = commands.add_parser(
        "verify",
        help=summary,
        description=summary.capitalize() + ".",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", nargs="?", default="last", metavar="RUN", help=f"{RUN_HELP}; default: last")
    parser.add_argument("-n", type=int, default=4, metavar="N", help="examples computed again, 0: none; default: 4")
    parser.add_argument("--root", type=Path, default="outputs", metavar="FOLDER", help="paths.root; default: outputs")
    parser.set_defaults(command=verify)


def verify(arguments: argparse.Namespace) -> int:
    """Print a line for each check."""
    from attribution.errors import InputError
    from pipeline.runs import Run, resolve_run
    from pipeline.verification import verify as verified

    if arguments.n < 0:
        raise InputError(f"error: -n {arguments.n} must be at least 0; it is how many examples are computed again.")
    wrong = False
    for check in verified(Run(resolve_run(arguments.run, Path(arguments.root / "runs"))), arguments.n):
        print(check.line, flush=True)
        wrong |= bool(check.wrong)
    return int(wrong)
