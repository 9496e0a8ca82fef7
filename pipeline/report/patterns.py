"""How relevant heads are to patterns, and what models that follow them reached beside the controls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline.arms import BASE
from pipeline.report.html import Child, Safe, interval, number, signed, tag

Rows = Sequence[Mapping[str, Any]]

_RELEVANCE = (
    "Share of a head's attention that lies where the pattern holds, in the mean over texts and their tokens; in "
    "brackets over the tokens alone for which the pattern allows a key. A head is significant above the bar of random "
    "models and above three times even attention."
)
_ARMS = (
    "Means over seeds and examples, ± the standard deviation over seeds, and paired differences with 95 % intervals."
)
_COSTS = (
    "mflops are millions of operations in the matrix products of a forward pass, two for each multiply-add. Products "
    "are dense: what a pattern leaves out is computed too, so that sparsity, the share of pairs of tokens that is not "
    "attended to, saves nothing here. milliseconds are measured, one text in a pass, beside the other tasks of the "
    "run; they are also those of other attention code, and no sign that a pattern is slower or faster as such."
)
_STUDIES = {
    "in_place": "Patterns put into heads, without training",
    "students": "Students trained to choose sentences",
    "projected": "Projected attention beside trained students, all trained as long again",
    "classifiers": "Students trained to classify",
}


def patterns(relevance: pa.Table, arms: pa.Table) -> Child:
    """Both tables; None for a run without patterns."""
    if not relevance.num_rows:
        return None
    rows = arms.to_pylist()
    studies = [_study([row for row in rows if row["study"] == study], title) for study, title in _STUDIES.items()]
    return [tag("p", _RELEVANCE, class_="hint"), _relevance(relevance.to_pylist()), studies]


def _relevance(rows: Rows) -> Safe:
    names = ("Pattern", "Best head", "Relevance", "Even attention", "Random models", "Significant heads")
    body = [
        _pattern([row for row in rows if row["pattern"] == name]) for name in dict.fromkeys(r["pattern"] for r in rows)
    ]
    return _table(names, body)


def _pattern(rows: Rows) -> list[Child]:
    own, applicable = ([row for row in rows if row["queries"] == queries] for queries in ("all", "applicable"))
    best = max(own, key=lambda row: -1.0 if row["relevance"] is None else row["relevance"])
    (other,) = [row for row in applicable if (row["layer"], row["head"]) == (best["layer"], best["head"])]
    told = f"{number(best['relevance'])} ± {number(best['standard_error'])} ({number(other['relevance'])})"
    known = best["significant"] is not None
    significant = str(sum(row["significant"] for row in own)) if known else "not known"
    bars = (number(best["uniform"]), number(best["random_bar"]))
    return [best["pattern"], f"{best['layer']}.{best['head']}", told, *bars, significant]


def _study(rows: Rows, title: str) -> Child:
    if not rows:
        return None
    names = ("Metric", "Arm", "Value", "Against", "Difference")
    told = _ARMS if all(row["metric"] != "mflops" for row in rows) else f"{_ARMS} {_COSTS}"
    return [tag("h3", title), tag("p", told, class_="hint"), _table(names, list(_arms(rows)))]


def _arms(rows: Rows) -> Iterator[list[Child]]:
    """Every arm by itself, and against the base."""
    for row in rows:
        if row["against"] is not None:
            continue
        spread = "" if row["spread"] is None else f" ± {number(row['spread'])}"
        value = [row["metric"], row["arm"], number(row["value"]) + spread]
        pairs = [r for r in rows if (r["metric"], r["arm"]) == (row["metric"], row["arm"]) and r["against"] is not None]
        if row["arm"] == BASE:
            yield [*value, "", ""]
        for place, pair in enumerate(pairs):
            told = f"{signed(pair['value'])} {interval(pair['low'], pair['high'])}"
            yield [*(value if place == 0 else ["", "", ""]), pair["against"], told]


def _table(names: Sequence[str], rows: Sequence[Sequence[Child]]) -> Safe:
    head = tag("tr", [tag("th", name, scope="col") for name in names])
    body = [tag("tr", tag("th", first, scope="row"), [tag("td", cell) for cell in rest]) for first, *rest in rows]
    return tag("div", tag("table", tag("thead", head), tag("tbody", body), class_="plain"), class_="scroll")
