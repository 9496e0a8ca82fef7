"""Mean ranks and expected numbers in the tables of `headlight table`."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import friedmanchisquare, rankdata

from attribution.errors import InputError
from pipeline.cli import main
from pipeline.sweep.compared import RANK, with_expected, with_ranks
from pipeline.sweep.table import WRITERS, pivot

METHODS, DATA = ("a", "b", "c"), ("one", "two", "three", "four")
VALUES = np.random.default_rng(1).normal(size=(3, 4)).round(3)


def records(metric="aopc", left_out=()):
    return [
        {"run": data, "method": method, "dataset": data, "metric": metric, "value": float(VALUES[i, j]),
         "low": float(VALUES[i, j]) - 0.1, "high": float(VALUES[i, j]) + 0.1, "n": 9}
        for i, method in enumerate(METHODS) for j, data in enumerate(DATA) if (method, data) not in left_out
    ]  # fmt: skip


def ranks(table):
    return [table.entries[method, RANK].value for method in METHODS]


def test_mean_ranks_are_those_of_the_columns_and_friedmans_p():
    table = with_ranks(pivot(records(), "method", "dataset"))
    np.testing.assert_allclose(ranks(table), rankdata(-VALUES, axis=0).mean(1))
    assert f"P {friedmanchisquare(*VALUES).pvalue:.2g} that no row differs" in table.title
    assert "mean ranks over 4 columns: closer than" in table.title
    assert table.best[RANK] == METHODS[int(np.argmin(ranks(table)))]
    assert WRITERS["md"](table).splitlines()[0] == "| method | one | two | three | four | mean rank |"


def test_where_lower_is_better_the_lowest_is_first():
    table = with_ranks(pivot(records("log_odds"), "method", "dataset"))
    np.testing.assert_allclose(ranks(table), rankdata(VALUES, axis=0).mean(1))


def test_columns_without_all_rows_are_left_out_and_counted():
    table = with_ranks(pivot(records(left_out=[("b", "two")]), "method", "dataset"))
    np.testing.assert_allclose(ranks(table), rankdata(-VALUES[:, [0, 2, 3]], axis=0).mean(1))
    assert "over 3 columns, 1 without all rows left out" in table.title


def test_one_column_has_no_mean_ranks():
    with pytest.raises(InputError, match="--ranks needs two rows and two columns"):
        with_ranks(pivot([r for r in records() if r["dataset"] == "one"], "method", "dataset"))


def test_expected_numbers_stand_beside_ours(tmp_path):
    path = tmp_path / "published.csv"
    path.write_text("method,dataset,metric,value\na,one,aopc,0.5\na,one,log_odds,9\nz,one,aopc,1\nb,two,,0.25\n")
    table = with_expected(pivot(records(), "method", "dataset"), path, "dataset")
    assert table.entries["a", "one"].text.endswith("], expected 0.500")
    assert table.entries["b", "two"].expected == 0.25
    assert table.entries["c", "one"].expected is None
    assert "3 numbers of published.csv, 1 of them without ours (z of one)" in table.title
    assert WRITERS["csv"](table).splitlines()[0].endswith(",runs,expected")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("method,value\na,1\n", "has no column dataset; it needs method, dataset, value"),
        ("method,dataset,value\na,one,high\n", "line 2: high is not a number"),
        (None, "cannot be read"),
    ],
)
def test_files_that_are_no_table_of_numbers_are_named(tmp_path, text, message):
    path = tmp_path / "published.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=message):
        with_expected(pivot(records(), "method", "dataset"), path, "dataset")


def test_a_run_has_both_from_the_command_line(make_run, tmp_path, capsys):
    path = tmp_path / "published.csv"
    path.write_text("method,metric,value\ngradcam,aopc,0.123\n")
    assert main(["table", str(make_run("first")), "--ranks", "--expected", str(path)]) == 0
    shown = capsys.readouterr()
    assert "expected 0.123" in next(line for line in shown.out.splitlines() if line.startswith("| `gradcam`"))
    assert shown.out.splitlines()[0].endswith("| mean rank |")
    assert "closer than" in shown.err
