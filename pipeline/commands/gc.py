"""`headlight gc`: delete old runs, and results that no run refers to."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from pipeline.commands.tables import size

EXAMPLES = """examples:
  headlight gc --dry-run                        results that no run refers to, older than a day
  headlight gc --keep champion --older 30d      runs older than 30 days too, but for the champion
  headlight gc --store s3://bucket/prefix --keep champion --keep demo --older 2w

Results can be computed again; runs cannot be had back. A store notes which folders of runs use it: what their runs
refer to stays. If one of them cannot be seen from here, nothing is deleted, unless --alone says that this does not
matter.
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
    parser.add_argument("--alone", action="store_true", help="delete results too that only runs elsewhere refer to")
    parser.set_defaults(command=gc)


def gc(arguments: argparse.Namespace) -> int:
    """Find, say and delete."""
    from pipeline.gc import find_garbage

    older = _age(arguments.older) if arguments.older else None
    store = arguments.store or str(arguments.root / "store")
    found = find_garbage(Path(arguments.root) / "runs", store, arguments.keep, older)
    if found.results and found.elsewhere and not arguments.alone:
        _mind(found.elsewhere, arguments.dry_run)
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


def _mind(elsewhere: Sequence[str], dry_run: bool) -> None:
    """What others may need is not deleted without being told to."""
    from attribution.errors import InputError

    text = f"runs in {', '.join(elsewhere)} may refer to these results, and cannot be seen from here"
    if not dry_run:
        raise InputError(f"error: {text}; nothing is deleted. Collect where they can, or give --alone.")
    print(f"would be refused without --alone: {text}")


def _age(text: str) -> timedelta:
    from attribution.errors import InputError
    from pipeline.duration import seconds

    try:
        return timedelta(seconds=seconds(text))
    except ValueError as error:
        raise InputError(f"error: --older {text} {error}.") from error
