"""`headlight methods`: what there is to choose from."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from pipeline.commands.tables import aligned

HEADER = (
    "METHOD", "FORWARDS", "BACKWARDS", "HEADS", "CLASSES", "HALF", "NEEDS", "FAMILIES", "ALIASES", "PARAMETERS",
    "SOURCE",
)  # fmt: skip
NOTE = """
FORWARDS   at most, beyond the one all methods share; N tokens, words or sentences of the text; equal ones run once
BACKWARDS  of its own; methods of one run share those that are plain numbers
HEADS      whether it takes a head mask: attribution.LABEL.head_mask=both
CLASSES    `blind` where the scores are the same whatever class is explained
HALF       how far scores may be off in bfloat16 and float16, of the largest; `no`: not offered. docs/precision.md
NEEDS      of the forward and the backwards that all methods share
FAMILIES   on which the conformance kit saw it work: {families}
ALIASES    names in Captum, Inseq and Thermostat; they may be written wherever a method is
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    summary = "list the attribution methods: cost, needs, parameters, source"
    parser = commands.add_parser("methods", help=summary, description=summary.capitalize() + ".")
    parser.set_defaults(command=methods)


def methods(arguments: argparse.Namespace) -> int:
    """Print the table."""
    from attribution import list_methods

    support = json.loads(files("attribution.methods").joinpath("families.json").read_text(encoding="utf-8"))
    note = NOTE.format(families=", ".join(support["families"]))
    print(aligned(HEADER, [_row(method, support["refused"]) for method in list_methods()]) + "\n" + note, end="")
    return 0


def _row(method: Any, refused: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    parameters = ", ".join(f"{name}={'null' if value is None else value}" for name, value in method.parameters.items())
    heads = "yes" if method.needs_heads else ""
    classes = "control" if method.control else "blind" if method.class_blind else ""
    needs, aliases = ", ".join(method.needed), " ".join(method.aliases)
    return (
        method.id,
        *method.cost,
        heads,
        classes,
        _half(method.precision.tolerances),
        needs,
        _families(method.id, refused),
        aliases,
        parameters,
        method.source,
    )


def _families(method: str, refused: Mapping[str, Sequence[str]]) -> str:
    """All but those that refuse it; of a method from elsewhere nothing is known."""
    if method not in refused:
        return "?"
    return "all" + "".join(f" but {family}" for family in refused[method])


def _half(tolerances: Mapping[str, float]) -> str:
    """Tolerances in half precision."""
    return ", ".join(f"{tolerances[name]:g}" for name in ("bfloat16", "float16") if name in tolerances) or "no"
