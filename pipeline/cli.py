"""The command `headlight`."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

from pipeline.commands import (
    compare,
    convert,
    doctor,
    explain,
    explore,
    export,
    fetch,
    gc,
    methods,
    regress,
    results,
    run,
    submit,
    sync,
    table,
    verify,
)

DONE, FAILED, BAD_INPUT, STOPPED = 0, 1, 4, 5

# Nothing leaves the machine unasked; whoever sets one of these has decided otherwise.
NO_TELEMETRY = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
}

EPILOG = """examples:
  headlight run experiment=demo                     the whole way on what the package brings along
  headlight explain "a gripping film"               one text, coloured in the terminal
  headlight plan experiment=sst2 dataset.limit=96   what a run would compute, before it does
  headlight run -m experiment=demo seed=1,2,3       a sweep; `headlight table last` prints its numbers
  headlight report last                             the report of the latest run
  headlight explore last                            look at its model's heads, in a browser

exit codes:
  0 done   1 failure in the run   2 regression found   3 nothing to compare with, or a night is missing
  4 bad configuration or input   5 stopped early, the same command goes on from there
"""


class Parser(argparse.ArgumentParser):
    """Wrong arguments are bad input like any other, and exit with 4."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and what is wrong with it."""
        self.print_usage(sys.stderr)
        self.exit(BAD_INPUT, f"error: {message}. `{self.prog} --help` shows how.\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    for name, value in NO_TELEMETRY.items():
        os.environ.setdefault(name, value)
    arguments = parse(argv)
    from pipeline.terminal import guarded

    with guarded():
        return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    from attribution.errors import HeadlightError, InputError
    from pipeline.errors import StorageError

    try:
        return int(arguments.command(arguments))
    except (KeyboardInterrupt, StorageError) as stop:
        reason = f" ({stop})" if str(stop) else ""
        print(f"stopped{reason}; the same command goes on from here", file=sys.stderr)
        return STOPPED
    except HeadlightError as error:
        print(_one_line_each(str(error)), file=sys.stderr)
        return BAD_INPUT if isinstance(error, InputError) else FAILED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception:
        traceback.print_exc()
        return FAILED


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments; overrides may stand before, after and between options."""
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)
    flags = [word for word in rest if word.startswith("-")]
    if flags or (rest and not hasattr(arguments, "overrides")):
        parser.error(f"unknown argument {(flags or rest)[0]}")
    if rest:
        arguments.overrides += rest
    return arguments


_COMMANDS = (
    *(run, submit, methods, explain, explore, doctor, results, table, compare),
    *(regress, fetch, convert, export, verify, sync, gc),
)


def build_parser() -> Parser:
    """The parser of all commands."""
    parser = Parser(
        prog="headlight",
        description="Find the heads that matter, explain predictions through them, measure how faithful that is.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"headlight {installed_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in _COMMANDS:
        module.add(commands)
    return parser


def installed_version() -> str:
    """Version of the distribution; a source tree that was never installed has none."""
    try:
        return version("headlight-xai")
    except PackageNotFoundError:
        return "(not installed)"


def _one_line_each(message: str) -> str:
    """Messages of the engine do not name a configuration key; they get a prefix of their own."""
    lines = message.splitlines() or ["unknown error"]
    return "\n".join(line if "error:" in line.split("=")[0] else f"error: {line}" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
