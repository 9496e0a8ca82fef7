"""Every head with its roles and importances, what rankings of heads are worth, and what a search finds by chance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from attribution.heads.roles import SYNTACTIC
from evaluation.association import Floats, spearman
from evaluation.head_pruning import LEAST_FIRST, MOST_FIRST
from pipeline.head_search import MODEL
from pipeline.head_worth import RANDOM
from pipeline.report.chart import Wording, charts
from pipeline.report.curves import Z_95, MeanCurve
from pipeline.report.headmap import role_name, short_name
from pipeline.report.html import Child, Safe, interval, number, signed, tag

Row = Mapping[str, Any]
PREFIX = "importance:"
CHANCE = "random orders"
WORDING = Wording("share of heads", "of the heads", "share of predictions that stay right, or as they were")
CAPTIONS = {
    LEAST_FIRST: "least important first: the longer a curve stays, the better its ranking",
    MOST_FIRST: "most important first: the faster a curve falls, the better its ranking",
}


def every_head(rows: Sequence[Row]) -> Child:
    """A row for each head: the roles it was selected for, and its importances with their ranks."""
    labels = [role for role in dict.fromkeys(row["role"] for row in rows) if role.startswith(PREFIX)]
    if not labels:
        return None
    heads = sorted({(row["layer"], row["head"]) for row in rows})
    cells = {(row["role"], row["layer"], row["head"]): row for row in rows}
    ranks = {label: _ranks(label, heads, cells) for label in labels}
    roles: dict[tuple[int, int], list[str]] = {head: [] for head in heads}
    for row in rows:
        if row["selected"]:
            roles[row["layer"], row["head"]].append(row["role"])
    names = [tag("th", label.removeprefix(PREFIX), scope="col", class_="number") for label in labels]
    body = [
        tag(
            "tr",
            tag("th", f"{layer}.{head}", scope="row"),
            _roles(roles[layer, head]),
            [_weighed(cells[label, layer, head], ranks[label][layer, head]) for label in labels],
        )
        for layer, head in heads
    ]
    first = [tag("th", "Head", scope="col"), tag("th", "Roles", scope="col")]
    table = tag("table", tag("thead", tag("tr", first, names)), tag("tbody", body), class_="plain")
    hint = "Layer and head, the roles it was selected for, and each importance with its rank; larger matters more."
    return [tag("h3", "Every head"), tag("p", hint, class_="hint"), tag("div", table, class_="scroll")]


def _roles(roles: Sequence[str]) -> Safe:
    """Short names, the long ones where one points at them."""
    words = ", ".join(dict.fromkeys(map(short_name, roles)))
    return tag("td", words or "–", title=", ".join(map(role_name, roles)) or None)


def _ranks(label: str, heads: Iterable[tuple[int, int]], cells: Mapping[Any, Row]) -> dict[tuple[int, int], int]:
    ordered = sorted(heads, key=lambda head: -cells[label, *head]["score"])
    return {head: rank for rank, head in enumerate(ordered, start=1)}


def _weighed(row: Row, rank: int) -> Safe:
    bounds = interval(row["low"], row["high"])
    return tag("td", number(row["score"]), tag("small", f" #{rank}"), class_="number", title=bounds or None)


def rankings(worth: pa.Table, pruning: pa.Table) -> Child:
    """Curves of pruning against random orders, and the areas between them."""
    if not worth.num_rows:
        return None
    cells = {(row["ranking"], row["measure"], row["order"]): row for row in worth.to_pylist()}
    hint = (
        "Heads are removed in the order of each ranking, and of random orders. Below: the mean height of a ranking's "
        "curve less that of the random orders, with 95 % intervals over examples; how many random orders it beats; and "
        "how well rankings of two halves of the texts agree."
    )
    return [
        tag("h3", "What the rankings are worth"),
        tag("p", hint, class_="hint"),
        _curves(pruning),
        tag("div", _worth_table(cells), class_="scroll"),
    ]


def agreement(rows: Iterable[Row]) -> Child:
    """Rank correlation of every two importances over all heads."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        if row["role"].startswith(PREFIX):
            scores.setdefault(row["role"].removeprefix(PREFIX), []).append(row["score"])
    if len(scores) < 2:
        return None
    columns = {label: np.array(values) for label, values in scores.items()}
    names = [tag("th", label, scope="col", class_="number") for label in columns]
    body = [
        tag("tr", tag("th", label, scope="row"), [_correlation(own, other) for other in columns.values()])
        for label, own in columns.items()
    ]
    table = tag(
        "table", tag("thead", tag("tr", tag("th", "Ranking", scope="col"), names)), tag("tbody", body), class_="plain"
    )
    hint = "Spearman correlation of each two over all heads: how far one says what the other does."
    return [tag("h3", "Whether rankings agree"), tag("p", hint, class_="hint"), tag("div", table, class_="scroll")]


def _correlation(own: Floats, other: Floats) -> Safe:
    return tag("td", number(spearman(own, other), 2), class_="number")


_WORTH = {
    "Least important first": ("decided", LEAST_FIRST),
    "Most important first": ("decided", MOST_FIRST),
    "Loss, least first": ("loss", LEAST_FIRST),
    "Loss, most first": ("loss", MOST_FIRST),
    "Halves: rank correlation": ("spearman", None),
    "Halves: overlap of the top": ("top_overlap", None),
}


def _worth_table(cells: Mapping[Any, Row]) -> Safe:
    labels = list(dict.fromkeys(ranking for ranking, _, _ in cells))
    known = {name: key for name, key in _WORTH.items() if any((label, *key) in cells for label in labels)}
    head = tag("tr", tag("th", "Ranking", scope="col"), [tag("th", n, scope="col", class_="number") for n in known])
    body = [
        tag("tr", tag("th", label, scope="row"), [_area(cells.get((label, *key))) for key in known.values()])
        for label in labels
    ]
    return tag("table", tag("thead", head), tag("tbody", body), class_="plain")


def _area(row: Row | None) -> Safe:
    if row is None:
        return tag("td", "–", class_="number")
    beaten = None if row["beaten"] is None else tag("small", f" beats {row['beaten']}")
    value = number(row["value"]) if row["order"] is None else signed(row["value"])
    return tag("td", value, " ", tag("small", interval(row["low"], row["high"])), beaten, class_="number")


def _curves(pruning: pa.Table) -> list[Safe]:
    """A figure for each way, with the mean of the random orders in both."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in pruning.to_pylist():
        groups.setdefault((row["ranking"], row["order"]), []).append(row)
    chance = [rows for (ranking, _), rows in groups.items() if ranking == RANDOM]
    drawn = [_curve(ranking, CAPTIONS[way], [rows]) for (ranking, way), rows in groups.items() if way in CAPTIONS]
    drawn += [_curve(CHANCE, caption, chance) for caption in CAPTIONS.values() if chance]
    labels = list(dict.fromkeys(curve.method for curve in drawn))
    return charts(drawn, labels, frozenset({CHANCE}), WORDING)


def _curve(label: str, caption: str, members: Sequence[Sequence[Row]]) -> MeanCurve:
    """The mean of several curves; its band is that of one share of `n` predictions."""
    removed = np.array([row["removed"] for row in members[0]], dtype=np.float64)
    mean = np.mean([[row["decided"] for row in rows] for rows in members], axis=0)
    n = int(members[0][0]["n"])
    half = Z_95 * np.sqrt(mean * (1 - mean) / n)
    return MeanCurve(label, "Heads removed", caption, removed / max(1.0, removed[-1]), mean, half, n)


def found_by_chance(controls: pa.Table) -> Child:
    """Roles with heads in the model, or where there is nothing to find, side by side."""
    if not controls.num_rows:
        return None
    roles: dict[str, dict[str, list[Row]]] = {}
    for row in controls.to_pylist():
        roles.setdefault(row["role"], {}).setdefault(row["control"], []).append(row)
    shown = {role: found for role, found in roles.items() if any(_any_selected(rows) for rows in found.values())}
    kinds = list(dict.fromkeys(control for found in roles.values() for control in found))
    heads = [tag("th", _TITLES[kind], scope="col", class_="number") for kind in kinds]
    syntactic = {role: found for role, found in roles.items() if role.startswith(SYNTACTIC)}
    totals = tag("tr", tag("th", f"all {len(syntactic)} syntactic", scope="row"), list(_totals(syntactic, kinds)))
    body = [
        tag("tr", tag("th", role_name(role), scope="row"), [_chance(found.get(kind)) for kind in kinds])
        for role, found in shown.items()
    ]
    head = tag("thead", tag("tr", tag("th", "Role", scope="col"), heads))
    table = tag("table", head, tag("tbody", totals, body), class_="plain")
    hint = (
        "Heads selected and the best score: in the model, on sentences with the trees of others, and in random models, "
        "whose heads attend evenly and therefore are broad."
    )
    return [tag("h3", "Found by chance"), tag("p", hint, class_="hint"), tag("div", table, class_="scroll")]


_TITLES = {MODEL: "This model", "shuffled_trees": "Shuffled trees", "random_model": "Random models, mean"}


def _any_selected(rows: Iterable[Row]) -> bool:
    return any(row["selected"] for row in rows)


def _totals(roles: Mapping[str, Mapping[str, Sequence[Row]]], kinds: Iterable[str]) -> Iterator[Safe]:
    for kind in kinds:
        means = [np.mean([row["selected"] for row in found[kind]]) for found in roles.values() if kind in found]
        yield tag("td", number(float(np.sum(means)), 1), class_="number")


def _chance(rows: Sequence[Row] | None) -> Safe:
    if not rows:
        return tag("td", "–", class_="number")
    selected, best = (float(np.mean([row[name] for row in rows])) for name in ("selected", "best"))
    return tag("td", number(selected, 1), tag("small", f" best {number(best, 2)}"), class_="number")


def alike(clusters: pa.Table) -> Child:
    """The clusters of heads that attend alike."""
    if not clusters.num_rows:
        return None
    members: dict[int, list[str]] = {}
    for row in clusters.to_pylist():
        members.setdefault(row["cluster"], []).append(f"{row['layer']}.{row['head']}")
    items = [tag("li", f"{len(each)}: {', '.join(each)}") for _, each in sorted(members.items())]
    hint = "Clusters by the mean Jensen-Shannon divergence of rows, average linkage."
    return [tag("h3", "Heads that attend alike"), tag("p", hint, class_="hint"), tag("ul", items, class_="notes")]
