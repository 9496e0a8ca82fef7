"""`headlight regress` and `headlight promote`: a night against the champion, and who the champion is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipeline.commands.results import RUN_HELP
from pipeline.commands.run import OVERRIDES

NOTHING_TO_COMPARE = 3

REGRESS_EXAMPLES = """examples:
  headlight regress experiment=nightly
  headlight regress experiment=nightly regression.vary=[model] model=local model.path=my-model
  headlight regress experiment=nightly --check      (runs nothing; is a night missing?)

exit codes:
  0 no regression   1 the run failed   2 regression   3 nothing to compare with, or a night is missing
  4 bad configuration or input   5 stopped early, the same command goes on from there
"""

PROMOTE_EXAMPLES = """examples:
  headlight promote --bootstrap last                the first champion of a series
  headlight promote nightly-20261121T020000Z        a later one
  headlight promote last --reason "new tokenizer"   against the verdict
"""


def add(commands: Any) -> None:
    """Add both commands to the parser."""
    regress_parser = _add(
        commands,
        "regress",
        "run a night and compare it with the champion",
        f"{OVERRIDES}\n{REGRESS_EXAMPLES}",
        regress,
    )
    regress_parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="changes to the configuration")
    regress_parser.add_argument("--config-dir", metavar="FOLDER", help="options of yours, as for `headlight run`")
    regress_parser.add_argument("--check", action="store_true", help="run nothing; exit 3 where a night is missing")
    promote_parser = _add(commands, "promote", "make a run the champion of its series", PROMOTE_EXAMPLES, promote)
    promote_parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    promote_parser.add_argument("--bootstrap", action="store_true", help="there is no champion yet")
    promote_parser.add_argument("--series", metavar="NAME", help="default: the series of the run, else its name")
    promote_parser.add_argument("--reason", metavar="TEXT", help="why; needed against a verdict")
    promote_parser.add_argument("--root", type=Path, default="outputs", metavar="FOLDER", help="default: outputs")


def _add(commands: Any, name: str, summary: str, epilog: str, command: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary.capitalize() + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=command)
    return parser


def regress(arguments: argparse.Namespace) -> int:
    """Run a night and print one line for each finding, or look whether one is missing."""
    from pipeline.validate import load_config

    config = load_config(arguments.overrides, arguments.config_dir)
    from pipeline.regression.night import overdue
    from pipeline.regression.night import regress as run_night

    if arguments.check:
        missing = overdue(config)
        print(missing or "no night is missing")
        return NOTHING_TO_COMPARE if missing else 0
    verdict = run_night(config, arguments.overrides)
    for line in verdict.lines():
        print(line)
    return verdict.exit_code


def promote(arguments: argparse.Namespace) -> int:
    """Move the champion."""
    from pipeline.regression.promote import promote as make_champion
    from pipeline.runs import resolve_run

    folder = resolve_run(arguments.run, arguments.root / "runs")
    chosen = {"bootstrap": arguments.bootstrap, "series": arguments.series, "reason": arguments.reason}
    print(make_champion(folder, arguments.root, **chosen))
    return 0
