"""`headlight gc`: delete old runs, and results that no run refers to."""

from __future__ import annotations

import argparse
from datetime import timedelta
from pathlib import Path
from typing import Any

from pipeline.commands.tables import size

EXAMPLES = """examples:
  headlight gc --dry-run                        results that no run refers to, older than a day
  headlight gc --keep champion --older 30d      runs older than 30 days too, but for the champion
  headlight gc --store s3://bucket/prefix --keep champion --keep demo --older 2w

Results can be computed again; runs cannot be had back. Results of a store that folders of runs share are kept for the
runs of --root alone.
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    summary = "delete results that no run refers to, and old runs"
    parser = commands.add_parser(
        "gc",
        help=summary,
        description=summary.capitalize() + ".",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="RUN",
        help="a run or sweep that stays; `champion` too; repeatable",
    )
    parser.add_argument("--older", metavar="TIME", help="delete runs and results older than 30d, 12h or 90m")
    parser.add_argument("--dry-run", action="store_true", help="say what would be deleted, and delete nothing")
    parser.add_argument("--root", type=Path, default="outputs", metavar="FOLDER", help="paths.root; default: outputs")
    parser.add_argument("--store", metavar="STORE", help="paths.store; default: the store in paths.root")
    parser.set_defaults(command=gc)


def gc(arguments: argparse.Namespace) -> int:
    """Find, say and delete."""
    from pipeline.gc import find_garbage

    older = _age(arguments.older) if arguments.older else None
    store = arguments.store or str(arguments.root / "store")
    found = find_garbage(Path(arguments.root) / "runs", store, arguments.keep, older)
    done = "would be deleted" if arguments.dry_run else "deleted"
    names = ": " + ", ".join(run.folder.name for run in found.runs) if found.runs else ""
    print(f"runs: {len(found.runs)} of {found.n_runs} {done}{names}")
    print(f"results: {len(found.results)} of {found.n_results} {done} in {found.store.location}")
    if found.foreign:
        print(f"left alone: {found.foreign} files there that are not Headlight's")
    if not arguments.dry_run:
        found.delete()
    print(f"{size(found.size)} {'would be freed' if arguments.dry_run else 'freed'}")
    return 0


def _age(text: str) -> timedelta:
    from attribution.errors import InputError
    from pipeline.duration import seconds

    try:
        return timedelta(seconds=seconds(text))
    except ValueError as error:
        raise InputError(f"error: --older {text} {error}.") from error
