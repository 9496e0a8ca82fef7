from __future__ import annotations

import math

import pytest
import torch

from attribution.errors import InputError
from attribution.heads import HeadScores, merge
from attribution.heads.intervals import wilson
from attribution.heads.roles import answer
from attribution.heads.scores import HEADS
from pipeline.schemas import HEADS as PIPELINE_HEADS


def positional() -> HeadScores:
    return HeadScores(
        scores={"positional:-1": torch.tensor([[0.875, 0.25, 0.0]] * 2).double()},
        baseline={"positional:-1": math.nan},
        count={"positional:-1": 200},
        selected={"positional:-1": torch.tensor([[True, False, False]] * 2)},
        report={"positional:-1": None},
        skipped={"rows without a single largest weight": 7},
    )


def syntactic() -> HeadScores:
    roles = ["syntactic:nsubj:dep->head", "syntactic:nsubj:head->dep", "syntactic:nsubj:pass:dep->head"]
    score = torch.tensor([[0.5, 0.25, 0.125], [0.0, 0.75, 1.0]]).double()
    return HeadScores(
        scores=dict.fromkeys(roles, score),
        baseline=dict.fromkeys(roles, 0.375),
        count=dict.fromkeys(roles, 120),
        selected={role: torch.arange(6).view(2, 3) == 3 + number for number, role in enumerate(roles)},
        report=dict.fromkeys(roles, score / 2),
    )


def test_columns_are_those_of_the_run_table():
    assert HEADS == PIPELINE_HEADS


def test_kinds_are_roles_and_their_prefixes():
    assert syntactic().kinds() == [
        "syntactic",
        "syntactic:nsubj",
        "syntactic:nsubj:dep->head",
        "syntactic:nsubj:head->dep",
        "syntactic:nsubj:pass",
        "syntactic:nsubj:pass:dep->head",
    ]


@pytest.mark.parametrize(
    ("kinds", "heads"),
    [
        (None, [0, 3, 3, 4, 5]),
        ("positional", [0, 3]),
        ("syntactic:nsubj:dep->head", [3]),
        ("syntactic:nsubj:pass", [5]),
        (["syntactic:nsubj:head->dep", "positional:-1"], [0, 3, 4]),
        ([], []),
    ],
)
def test_mask_joins_what_the_kinds_selected(kinds, heads):
    mask = merge(positional(), syntactic()).mask(kinds)
    assert mask.flatten().nonzero().squeeze(1).tolist() == sorted(set(heads))
    assert mask.dtype == torch.bool


def test_unknown_kind_lists_the_known():
    with pytest.raises(InputError, match=r"heads=syntactic:nsub .* Did you mean syntactic:nsubj\? .* positional:-1"):
        merge(positional(), syntactic()).mask("syntactic:nsub")
    with pytest.raises(InputError, match="heads=positional "):  # a prefix ends at a colon
        syntactic().mask("positional")


def test_best_and_interval():
    scores = merge(positional(), syntactic())
    assert scores.best["syntactic:nsubj:dep->head"] == (1, 2, 1.0)
    assert scores.best["positional:-1"] == (0, 0, 0.875)
    assert scores.interval["positional:-1"].shape == (2, 3, 2)


def test_wilson_against_closed_values():
    # 8 of 10 and 0 of 10, 95 %: Brown, Cai & DasGupta 2001 give the formula; values by hand with z^2 = 3.841459.
    assert wilson(torch.tensor(0.8).double(), 10).tolist() == pytest.approx([0.4901625, 0.9433178], abs=1e-7)
    assert wilson(torch.tensor(0.0).double(), 10).tolist() == pytest.approx([0, 3.841459 / 13.841459], abs=1e-7)
    assert wilson(torch.tensor([0.5]).double(), 0).tolist() == [[0, 1]]
    # its ends are where a score test just rejects: |p - q| = z * sqrt(q (1 - q) / n)
    for p, n in ((0.3, 7), (0.61, 143), (1.0, 29)):
        for q in wilson(torch.tensor(p).double(), n).tolist():
            assert abs(p - q) == pytest.approx(1.959964 * math.sqrt(q * (1 - q) / n), abs=1e-6)


def test_table_and_file_give_the_same_back(tmp_path):
    scores = merge(positional(), syntactic())
    table = scores.to_table()
    assert table.schema == HEADS
    assert table.num_rows == 4 * 6
    assert table["baseline"].null_count == 6
    scores.save(tmp_path / "heads.parquet")
    for back in (HeadScores.load(tmp_path / "heads.parquet"), HeadScores.from_table(table.take(list(range(24))[::-1]))):
        assert back.shape == (2, 3)
        assert set(back.scores) == set(scores.scores)
        for role in scores.scores:
            assert torch.equal(back.scores[role], scores.scores[role])
            assert torch.equal(back.selected[role], scores.selected[role])
            torch.testing.assert_close(back.interval[role], scores.interval[role])
        assert back.count == {role: scores.count[role] for role in back.count}
        assert math.isnan(back.baseline["positional:-1"])
        assert back.baseline["syntactic:nsubj:dep->head"] == 0.375
        assert back.report["positional:-1"] is None
        assert torch.equal(back.report["syntactic:nsubj:dep->head"], syntactic().report["syntactic:nsubj:dep->head"])


def test_bad_tables_are_refused(tmp_path):
    table = positional().to_table()
    with pytest.raises(InputError, match="lacks the columns head, selected"):
        HeadScores.from_table(table.drop_columns(["head", "selected"]))
    with pytest.raises(InputError, match="5 rows for 2 x 3 heads"):
        HeadScores.from_table(table.take([0, 1, 2, 3, 5]))
    with pytest.raises(InputError, match="has no rows"):
        HeadScores.from_table(HEADS.empty_table())
    with pytest.raises(InputError, match=r"nothing.parquet does not exist"):
        HeadScores.load(tmp_path / "nothing.parquet")
    (tmp_path / "text.parquet").write_text("role,layer")
    with pytest.raises(InputError, match=r"text.parquet is not a Parquet file"):
        HeadScores.load(tmp_path / "text.parquet")


def test_heads_of_different_models_are_not_joined():
    other = positional()
    other.scores["positional:-1"] = torch.zeros(3, 3)
    with pytest.raises(InputError, match=r"\(3, 3\) and \(2, 3\)"):
        merge(other, syntactic())


def test_describe_tells_score_interval_baseline_and_what_was_left_out():
    lines = merge(positional(), syntactic()).describe()
    assert lines[0] == "positional:-1: 2 heads; best 0.0 0.875 [0.822, 0.914], n=200"
    assert lines[1] == (
        "syntactic:nsubj:dep->head: 1 heads; best 1.2 1.000 [0.969, 1.000], 0.500 on the report split, "
        "baseline 0.375, n=120"
    )
    assert lines[-1] == "left out: 7 rows without a single largest weight"


def test_answer_is_minus_one_where_nothing_stands_out():
    rows = torch.tensor([[0.1, 0.7, 0.2], [0.4, 0.4, 0.2], [0.0, 0.0, 0.0], [0.0, 0.0, 1e-9]])
    assert answer(rows).tolist() == [1, -1, -1, 2]
