"""Writes docs/methods.md: what there is to choose from, and on which models each method was seen to work.

Beside it attribution/methods/families.json, of which `headlight methods` tells the same.

python tests/methods_page.py
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE, FAMILIES = ROOT / "docs" / "methods.md", ROOT / "attribution" / "methods" / "families.json"
HEAD = """# Methods

Written by `python tests/methods_page.py` from the registry and from the result of the conformance kit
(`attribution/conformance.py`) on a tiny random model of every family; a test compares this page with both. What is
examined: shape, dtype and finite values, padding on either side and other texts in the batch, the same scores twice,
several targets, special tokens, float32 against float64, and that the model is left as it was.

Forwards and backwards: at most, beyond the forward that all methods of a run share; N tokens, words or sentences of the
text. Backwards that are plain numbers are shared by the methods of a run that need the same. Aliases may be written
wherever a method is.
"""
TASKS = {"": "classification", "qa": "question answering", "lm": "next token"}
PRECISION = """
## In which precision

How far scores may be from those of the model in float64, as a share of the largest (`attribution/precision.py`); `no`:
not offered, and refused in one line. docs/precision.md says where these come from.
"""
DTYPES = ("float64", "float32", "bfloat16", "float16")
MATRIX = """
## Where they run

Families by their `model_type`. Examined are classification and question answering; for decoders the next token, too,
for BERT independent labels, for ModernBERT pooling of the first token and of all, for DeBERTa keys shared and not.
`yes`: on all of them. A number: refused, with the reason below.
"""


def page() -> str:
    """The whole page."""
    from attribution import list_methods

    methods = [method for method in list_methods() if method.id not in _plugins()]
    return (
        "\n".join(
            [
                HEAD,
                _catalogue(methods),
                PRECISION,
                _precisions(methods),
                MATRIX,
                *_matrix([method.id for method in methods]),
            ]
        )
        + "\n"
    )


def families() -> str:
    """Model types, and by method those on which it is refused, whatever the task."""
    from conformance_results import verdicts

    from attribution import list_methods

    models = _models()
    refused = {
        method.id: [type_ for type_, names in models.items() if all(verdicts(n)[method.id].refused for n in names)]
        for method in list_methods()
        if method.id not in _plugins()
    }
    return json.dumps({"families": list(models), "refused": refused}, indent=1) + "\n"


def _plugins() -> dict[str, str]:
    """Methods of other packages, which are not ours to list."""
    from attribution.methods.plugins import ORIGINS

    return ORIGINS


def _catalogue(methods: Sequence[object]) -> str:
    rows = [("method", "what it gives", "forwards", "backwards", "needs", "parameters", "aliases", "source")]
    rows += [
        (f"`{m.id}`", _first_sentence(m), *m.cost, _needs(m), _parameters(m), _aliases(m), m.source) for m in methods
    ]
    return _table(rows)


def _precisions(methods: Sequence[object]) -> str:
    rows = [("method", *DTYPES, "in float32 at any rate")]
    for method in methods:
        policy = method.precision
        shares = (f"{policy.tolerances[name]:g}" if name in policy.tolerances else "no" for name in DTYPES)
        rows.append((f"`{method.id}`", *shares, policy.wide))
    return _table(rows)


def _first_sentence(method) -> str:
    notes = [
        note for note, holds in (("the same for every class", method.class_blind), ("control", method.control)) if holds
    ]
    return method.summary.rstrip(".") + "".join(f"; {note}" for note in notes)


def _needs(method) -> str:
    return ", ".join(method.needed) or "—"


def _aliases(method) -> str:
    return ", ".join(f"`{alias}`" for alias in method.aliases) or "—"


def _parameters(method) -> str:
    return ", ".join(f"`{name}={default}`" for name, default in method.parameters.items()) or "—"


def _matrix(methods: Sequence[str]) -> list[str]:
    """The table, and the reasons its numbers stand for."""
    families, reasons = _models(), []
    rows = [("", *families)]
    for method in methods:
        rows.append((f"`{method}`", *(_cell(method, models, reasons) for models in families.values())))
    return [_table(rows), "", *(f"{number}. {reason}" for number, reason in enumerate(reasons, 1))]


def _models() -> dict[str, dict[str, str]]:
    """Model type -> {tiny model: its task}."""
    from tiny_models import TINY_MODELS, tiny_model

    found: dict[str, dict[str, str]] = {}
    for name, (_, head, extra) in TINY_MODELS.items():
        task = "independent labels" if "problem_type" in extra else TASKS[head]
        found.setdefault(tiny_model(name, layers=1).config.model_type, {})[name] = task
    return found


def _cell(method: str, models: dict[str, str], reasons: list[str]) -> str:
    from conformance_results import verdicts

    found = {name: verdicts(name)[method] for name in models}
    if broken := [name for name, verdict in found.items() if verdict.problems]:
        raise SystemExit(f"{method} does not conform on {broken[0]}: {found[broken[0]].problems[0]}")
    refused = {name: _general(verdict.refused) for name, verdict in found.items() if verdict.refused is not None}
    if not refused:
        return "yes"
    numbers = sorted({_number(reason, reasons) for reason in refused.values()})
    where = "" if len(refused) == len(models) else " " + ", ".join(dict.fromkeys(models[name] for name in refused))
    return ", ".join(map(str, numbers)) + where


def _general(reason: str) -> str:
    """A reason without what belongs to the tiny model alone."""
    return re.sub(r" of layer \d+|\.layer\.\d+|\.layers\.\d+|\.h\.\d+", "", reason)


def _number(reason: str, reasons: list[str]) -> int:
    if reason not in reasons:
        reasons.append(reason)
    return reasons.index(reason) + 1


def _table(rows: Iterable[Sequence[str]]) -> str:
    head, *rest = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *rest]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    FAMILIES.write_text(families(), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
