"""`headlight explore`: a page on which a person looks at heads, and describes the patterns they follow."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.commands.results import RUN_HELP

EPILOG = """Serves one page until it is stopped: the map of layers by heads, one head on one text, patterns built from
blocks with the relevance they have for every head, and what predictions become without a head or with a pattern in
its place. What you find is saved with your name and your reasons, and runs as it is:

  headlight explore last
  headlight explore sst2 --texts 50 --save my-patterns.yaml
  headlight explore sst2 --trees en_ewt-ud-dev.conllu      sentences with trees: patterns may follow relations
  headlight run patterns.path=my-patterns.yaml patterns.in_place=true

This machine alone can open the page. --host shows it to others, to whoever has the address that is printed, whose
token is the key to it; what they do is not encrypted, so that a tunnel is better on a network you do not own:

  ssh -L 8765:127.0.0.1:8765 THERE      then open http://127.0.0.1:8765/ here
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    summary = "look at the heads of a run's model, describe what they do, put it to the test"
    parser = commands.add_parser(
        "explore",
        help=summary,
        description=summary.capitalize() + ".",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", nargs="?", default="last", metavar="RUN", help=f"{RUN_HELP}; default: last")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="to listen on; default: 127.0.0.1")
    parser.add_argument("--port", type=int, default=8765, metavar="N", help="0: any that is free; default: 8765")
    meaning = "ask for a token on this machine, too, where others have accounts on it"
    parser.add_argument("--token", action="store_true", help=meaning)
    parser.add_argument("--texts", type=int, default=200, metavar="N", help="of the run, at most; default: 200")
    meaning = "a treebank (.conllu, .jsonl, .json) whose sentences are looked at in place of the run's texts"
    parser.add_argument("--trees", type=Path, metavar="FILE", help=meaning)
    save = "where patterns are saved, beside a log of decisions; default: patterns.yaml"
    parser.add_argument("--save", type=Path, default=Path("patterns.yaml"), metavar="FILE", help=save)
    parser.add_argument("--root", type=Path, default="outputs", metavar="FOLDER", help="paths.root; default: outputs")
    parser.set_defaults(command=explore)


def explore(arguments: argparse.Namespace) -> int:
    """Serve until it is stopped, which is how it ends well."""
    from attribution.errors import InputError
    from pipeline.explore.server import serve
    from pipeline.runs import Run, resolve_run

    if arguments.texts < 1:
        raise InputError(f"error: --texts {arguments.texts} must be at least 1; it is how many texts are looked at.")
    if not 0 <= arguments.port < 2**16:
        raise InputError(f"error: --port {arguments.port} must be from 0 to {2**16 - 1}.")
    run = Run(resolve_run(arguments.run, Path(arguments.root / "runs")))
    where = {"host": arguments.host, "port": arguments.port, "locked": arguments.token}
    with suppress(KeyboardInterrupt):
        serve(run, texts=arguments.texts, save=arguments.save, trees=arguments.trees, **where)
    return 0
