"""`headlight methods`: what there is to choose from."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from attribution.errors import InputError
from pipeline.commands.tables import aligned

HEADER = ("METHOD", "FORWARDS", "BACKWARDS", "HEADS", "CLASSES", "HALF")
WIDEST = 24  # of a formula in the table
NOTE = """
FORWARDS   at most, beyond the one all methods share; N tokens, words or sentences of the text; equal ones run once
BACKWARDS  of its own; methods of one run share those that are plain numbers
HEADS      whether it takes a head mask: attribution.LABEL.head_mask=both
CLASSES    `blind` where the scores are the same whatever class is explained
HALF       how far scores may be off in bfloat16 and float16, of the largest; `no`: not offered. docs/precision.md

`headlight methods NAME` tells parameters, what a method needs, families, aliases and source; docs/methods.md of all.
"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    summary = "list the attribution methods and their cost; with a name, all that is known of one"
    parser = commands.add_parser("methods", help=summary, description=summary.capitalize() + ".")
    parser.add_argument("names", nargs="*", metavar="NAME", help="methods, by name or alias; default: all, as a table")
    parser.set_defaults(command=methods)


def methods(arguments: argparse.Namespace) -> int:
    """Print the table, or what is known of some methods."""
    from attribution import list_methods
    from attribution.methods.registry import canonical
    from pipeline.overrides import did_you_mean

    known = {method.id: method for method in list_methods()}
    names = [canonical(name) for name in arguments.names]
    if unknown := [name for name in names if name not in known]:
        raise InputError(
            f"{unknown[0]} is not a method.{did_you_mean(unknown[0], known)} `headlight methods` lists them."
        )
    if names:
        support = json.loads(files("attribution.methods").joinpath("families.json").read_text(encoding="utf-8"))
        print("\n\n".join(_told(known[name], support) for name in dict.fromkeys(names)))
    else:
        print(aligned(HEADER, [_row(method) for method in known.values()]) + "\n" + NOTE, end="")
    return 0


def _row(method: Any) -> tuple[str, ...]:
    heads = "yes" if method.needs_heads else ""
    return (method.id, *map(_short, method.cost), heads, _classes(method), _half(method.precision.tolerances))


def _told(method: Any, support: Mapping[str, Any]) -> str:
    """A paragraph: a line for each thing that is known."""
    parameters = ", ".join(f"{name}={'null' if value is None else value}" for name, value in method.parameters.items())
    forwards, backwards = method.cost
    facts = {
        "cost": f"{forwards} forwards beyond the shared one, {backwards} backwards",
        "heads": "takes a head mask" if method.needs_heads else "",
        "classes": _classes(method),
        "half": _half(method.precision.tolerances),
        "needs": ", ".join(method.needed),
        "families": f"{_families(method.id, support['refused'])} of {', '.join(support['families'])}",
        "aliases": " ".join(method.aliases),
        "parameters": parameters,
        "source": method.source,
    }
    return "\n".join([method.id, *(f"  {name:<11} {fact}" for name, fact in facts.items() if fact)])


def _short(formula: str) -> str:
    return formula if len(formula) <= WIDEST else formula[: WIDEST - 1] + "…"


def _classes(method: Any) -> str:
    return "control" if method.control else "blind" if method.class_blind else ""


def _families(method: str, refused: Mapping[str, Sequence[str]]) -> str:
    """All but those that refuse it; of a method from elsewhere nothing is known."""
    if method not in refused:
        return "?"
    return "all" + "".join(f" but {family}" for family in refused[method])


def _half(tolerances: Mapping[str, float]) -> str:
    """Tolerances in half precision."""
    return ", ".join(f"{tolerances[name]:g}" for name in ("bfloat16", "float16") if name in tolerances) or "no"
