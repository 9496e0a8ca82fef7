"""`headlight convert`: weights in pickle form as safetensors."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

EXAMPLES = """examples:
  headlight convert old-model                       a folder with pytorch_model.bin; writes old-model-safetensors
  headlight convert OWNER/NAME --revision COMMIT --out models/name

Then: headlight run model=local model.path=old-model-safetensors ...
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    summary = "turn weights in pickle form (pytorch_model.bin) into safetensors, running nothing of them"
    parser = commands.add_parser(
        "convert",
        help=summary,
        description=summary.capitalize() + ".",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="ID_OR_FOLDER", help="a folder, or an id of the Hub")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: its name with -safetensors, here")
    parser.add_argument("--revision", metavar="COMMIT", help="of the model, on the Hub")
    parser.set_defaults(command=convert)


def convert(arguments: argparse.Namespace) -> int:
    """Convert, and print both hashes of every file."""
    from pipeline.models.convert import RECORD
    from pipeline.models.convert import convert as convert_model

    out = arguments.out or Path(f"{Path(arguments.model).resolve().name}-safetensors")
    found, converted = convert_model(arguments.model, out, arguments.revision)
    for each in converted:
        print(f"{each.source}  sha256 {each.source_sha256}\n  -> {each.target}  sha256 {each.target_sha256}")
        if each.network:
            print(f"  note: the process that read it was not cut off from the network: {each.network}")
    print(f"{found.architecture} in {out}; the hashes are in {out / RECORD}. Use it: model=local model.path={out}")
    return 0
