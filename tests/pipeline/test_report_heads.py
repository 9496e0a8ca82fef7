"""The part of a report on heads: ranks, agreement of rankings, what they are worth, and what is found by chance."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest

from pipeline.report.head_table import agreement, alike, every_head, found_by_chance, rankings
from pipeline.report.html import join
from pipeline.schemas import HEAD_CLUSTERS, HEAD_CONTROLS, PRUNING, RANKINGS

SCORES = {"importance:a": [0.4, 0.1, 0.3, 0.2], "importance:b": [1.0, 4.0, 2.0, 3.0], "next": [0.9, 0.1, 0.1, 0.1]}
ROWS = [
    {
        "role": role, "layer": number // 2, "head": number % 2, "score": score, "low": score, "high": score,
        "selected": role == "next" and score > 0.5,
    }
    for role, scores in SCORES.items()
    for number, score in enumerate(scores)
]  # fmt: skip


def cells(part):
    """The text of each cell, by row."""
    rows = re.findall(r"<tr>(.*?)</tr>", str(join(part)), re.DOTALL)
    found = ([re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows)
    return {row[0]: row[1:] for row in found}


def test_every_head_has_its_roles_and_the_rank_of_each_importance():
    found = cells(every_head(ROWS))
    assert found["Head"] == ["Roles", "a", "b"]
    assert found["0.0"] == ["next", "0.400 #1", "1.000 #4"]
    assert found["1.1"] == ["–", "0.200 #3", "3.000 #2"]


def test_rankings_agree_as_their_ranks_correlate():
    found = cells(agreement(ROWS))
    assert found == {"Ranking": ["a", "b"], "a": ["1.00", "−1.00"], "b": ["−1.00", "1.00"]}
    assert agreement([row for row in ROWS if row["role"] != "importance:b"]) is None


def worth(measure, order, value, beaten):
    about = {"ranking": "a", "measure": measure, "order": order, "n": 9, "beaten": beaten}
    return {**about, "value": value, "low": value - 0.01, "high": value + 0.01}


def test_what_a_ranking_is_worth_stands_in_one_row():
    table = [worth("decided", "least_first", 0.25, 5), worth("spearman", None, 0.5, None)]
    curve = [
        {"ranking": ranking, "order": order, "removed": removed, "loss": 0.1, "decided": 1 - removed / 4, "n": 9}
        for ranking, order in (("a", "least_first"), ("random", "0"), ("random", "1"))
        for removed in (0, 2, 4)
    ]
    part = rankings(pa.Table.from_pylist(table, RANKINGS), pa.Table.from_pylist(curve, PRUNING))
    found, page = cells(part), str(join(part))
    assert [cell.split()[0] for cell in found["a"]] == ["+0.250", "0.500"]
    assert "beats 5" in found["a"][0]
    assert "random orders" in page
    assert "share of heads" in page


def control(role, kind, seed, selected, best):
    about = {"role": role, "control": kind, "seed": seed, "selected": selected, "best": best}
    return {**about, "mean": 0.1, "count": 100}


def test_what_is_found_by_chance_stands_beside_what_is_found():
    table = [
        control("syntactic:obj:dep->head", "model", None, 3, 0.8),
        control("syntactic:obj:dep->head", "shuffled_trees", None, 0, 0.2),
        control("syntactic:obj:dep->head", "random_model", 0, 1, 0.3),
        control("syntactic:obj:dep->head", "random_model", 1, 0, 0.1),
        control("syntactic:det:dep->head", "model", None, 0, 0.4),
    ]
    found = cells(found_by_chance(pa.Table.from_pylist(table, HEAD_CONTROLS)))
    assert found["Role"] == ["This model", "Shuffled trees", "Random models, mean"]
    assert found["all 2 syntactic"] == ["3.0", "0.0", "0.5"]
    assert found["obj: dep → head"] == ["3.0 best 0.80", "0.0 best 0.20", "0.5 best 0.20"]
    assert "det: dep → head" not in found


def test_heads_that_attend_alike_are_listed_together():
    places = [(0, 0, 2), (0, 1, 1), (1, 0, 2), (1, 1, 2)]
    table = [{"layer": layer, "head": head, "cluster": cluster, "x": 0.0, "y": 0.0} for layer, head, cluster in places]
    page = str(join(alike(pa.Table.from_pylist(table, HEAD_CLUSTERS))))
    assert re.findall(r"<li>(.*?)</li>", page) == ["1: 0.1", "3: 0.0, 1.0, 1.1"]


@pytest.mark.parametrize(
    "part",
    [every_head([]), agreement([]), found_by_chance(HEAD_CONTROLS.empty_table()), alike(HEAD_CLUSTERS.empty_table())],
)
def test_what_was_not_looked_for_has_no_part(part):
    assert part is None
