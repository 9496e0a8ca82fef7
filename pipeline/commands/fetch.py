"""`headlight fetch`: model, tokenizer and data of a configuration, brought here once."""

from __future__ import annotations

import argparse
import os
from typing import Any

from pipeline.commands.tables import aligned, size

EXAMPLES = """examples:
  headlight fetch experiment=paper/mask_lrp_imdb model=hub model.id=OWNER/NAME
  HF_HOME=/shared/huggingface headlight fetch experiment=mine --config-dir my_conf

The same configuration then runs without network: HF_HUB_OFFLINE=1 headlight run experiment=...
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    summary = "download the model, tokenizer and data of a configuration, for machines without network"
    parser = commands.add_parser(
        "fetch",
        help=summary,
        description=summary.capitalize() + ".",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="as for `headlight run`")
    parser.add_argument("--config-dir", metavar="FOLDER", help="options of yours, such as FOLDER/experiment/mine.yaml")
    parser.set_defaults(command=fetch)


def fetch(arguments: argparse.Namespace) -> int:
    """Fetch, and print what came from where."""
    from huggingface_hub.constants import HF_HOME

    from pipeline.fetch import fetch as fetch_all
    from pipeline.validate import load_config

    fetched = list(fetch_all(load_config(arguments.overrides, arguments.config_dir)))
    rows = [(each.what, each.name, each.revision or "local already", _size(each), str(each.folder)) for each in fetched]
    print(aligned(("WHAT", "NAME", "REVISION", "SIZE", "WHERE"), rows))
    if any(each.revision for each in fetched):
        print(f"without network: HF_HUB_OFFLINE=1 HF_HOME={os.path.abspath(HF_HOME)}")
    return 0


def _size(fetched: Any) -> str:
    return "with the model" if fetched.what == "tokenizer" else size(fetched.size)
