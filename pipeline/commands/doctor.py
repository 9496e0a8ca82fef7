"""`headlight doctor`: what is here, and what is wrong with it."""

from __future__ import annotations

import argparse
from itertools import groupby
from pathlib import Path
from typing import Any

MARKS = {"ok": " ", "note": "-", "problem": "!"}


def add(commands: Any) -> None:
    """Add the command to the parser."""
    summary = "report versions, devices, caches, tracking and what is wrong with them"
    parser = commands.add_parser("doctor", help=summary, description=summary.capitalize() + ".")
    parser.add_argument("--root", type=Path, default="outputs", metavar="FOLDER", help="paths.root; default: outputs")
    parser.add_argument("--cluster", metavar="HOST:PORT", help="a Ray cluster to look at; default: RAY_ADDRESS")
    parser.set_defaults(command=doctor)


def doctor(arguments: argparse.Namespace) -> int:
    """Print the findings; 1 where something is wrong."""
    from pipeline.doctor import examine

    findings = examine(arguments.root, address=arguments.cluster)
    for section, group in groupby(findings, key=lambda finding: finding.section):
        print(section)
        for finding in group:
            print(f" {MARKS[finding.state]} {finding.text}")
    problems = sum(finding.state == "problem" for finding in findings)
    print(f"\n{problems or 'no'} problem{'' if problems == 1 else 's'} found{', marked !' if problems else ''}")
    return int(problems > 0)
