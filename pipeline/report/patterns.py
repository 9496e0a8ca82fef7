"""How relevant heads are to patterns, and what models that follow them reached beside the controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline.arm_lines import studies
from pipeline.report.arm_tables import study
from pipeline.report.html import Child, Safe, number, plain_table, tag

Rows = Sequence[Mapping[str, Any]]

_RELEVANCE = (
    "Share of a head's attention that lies where the pattern holds, in the mean over texts and their tokens; in "
    "brackets over the tokens alone for which the pattern allows a key. A head is significant above the bar of random "
    "models and above three times even attention."
)


def patterns(relevance: pa.Table, arms: pa.Table) -> Child:
    """Both tables; None for a run without patterns."""
    if not relevance.num_rows:
        return None
    told = [study(rows, title) for title, rows in studies(arms).items()]
    return [tag("p", _RELEVANCE, class_="hint"), _relevance(relevance.to_pylist()), told]


def _relevance(rows: Rows) -> Safe:
    names = ("Pattern", "Best head", "Relevance", "Even attention", "Random models", "Significant heads")
    body = [
        _pattern([row for row in rows if row["pattern"] == name]) for name in dict.fromkeys(r["pattern"] for r in rows)
    ]
    return plain_table(names, body)


def _pattern(rows: Rows) -> list[Child]:
    own, applicable = ([row for row in rows if row["queries"] == queries] for queries in ("all", "applicable"))
    best = max(own, key=lambda row: -1.0 if row["relevance"] is None else row["relevance"])
    (other,) = [row for row in applicable if (row["layer"], row["head"]) == (best["layer"], best["head"])]
    told = f"{number(best['relevance'])} ± {number(best['standard_error'])} ({number(other['relevance'])})"
    known = best["significant"] is not None
    significant = str(sum(row["significant"] for row in own)) if known else "not known"
    bars = (number(best["uniform"]), number(best["random_bar"]))
    return [best["pattern"], f"{best['layer']}.{best['head']}", told, *bars, significant]
