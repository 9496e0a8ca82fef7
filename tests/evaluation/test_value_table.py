"""Values per example, against a dictionary of them."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from value_tables import table_of

from attribution.errors import InputError
from evaluation.statistics import ValueTable, compare_methods, mean_intervals
from evaluation.verdict import Rule, verdict

HIGHER = {"aopc": True, "recall": True, "log_odds": False}


def rows(seed=0, n=30, methods=("b", "a", "c")):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, n).astype(float)
    return [
        {
            "item_id": f"i{i}",
            "method": method,
            "metric": metric,
            "value": float(rng.normal()) if rng.uniform() > 0.1 else float("nan"),
            "weight": sizes[i] if metric == "recall" else 1.0,
        }
        for metric, i, method in itertools.product(HIGHER, range(n), methods)
        if rng.uniform() > 0.05
    ]


def test_every_value_is_where_it_belongs_and_the_rest_is_undefined():
    written = rows()
    table = ValueTable.from_arrow(pa.Table.from_pylist(written), HIGHER)
    known = {(row["metric"], row["item_id"], row["method"]): row for row in written}
    assert table.methods == ("a", "b", "c")
    assert table.metrics == tuple(sorted(HIGHER))
    assert table.items == tuple(sorted(table.items))
    assert table.signs.tolist() == [1, -1, 1]
    for place in np.ndindex(table.values.shape):
        k, i, m = place
        row = known.get((table.metrics[k], table.items[i], table.methods[m]), {"value": np.nan})
        assert table.values[place] == pytest.approx(row["value"], nan_ok=True)
        assert "weight" not in row or table.weights[k, i] == row["weight"]
    assert table.defined.sum() == sum(not np.isnan(row["value"]) for row in written)


def test_nothing_depends_on_the_order_of_the_rows():
    written = rows()
    results = []
    for seed in (None, 1, 2):
        if seed is not None:
            np.random.default_rng(seed).shuffle(written)
        table = ValueTable.from_arrow(pa.Table.from_pylist(written), HIGHER)
        compared = compare_methods(table, samples=200)
        arrays = [each.tobytes() for each in (compared.low, compared.high, compared.adjusted)]
        results.append(
            (repr(mean_intervals(table, samples=200)), arrays, repr(verdict(table, Rule("aopc", samples=200))))
        )
    assert results[0] == results[1] == results[2]


def test_a_metric_that_was_not_asked_for_is_left_out():
    table = ValueTable.from_arrow(pa.Table.from_pylist(rows()), {"log_odds": False})
    assert table.metrics == ("log_odds",)
    with pytest.raises(InputError, match="metric=aopc was not measured; choose from log_odds"):
        table.metric("aopc")


def test_an_example_without_weight_is_undefined():
    table = table_of(np.ones((3, 2)), weights=[[1, 0, np.nan]])
    assert table.defined[0].tolist() == [[True, True], [False, False], [False, False]]
    assert table.weights.tolist() == [[1, 0, 0]]


def test_only_and_where():
    values = np.arange(24.0).reshape(2, 4, 3)
    table = table_of(values, metrics=["x", "y"])
    part = table.only(["y"], ["m2", "m0"]).where([table.items[3], table.items[1], "another"])
    assert part.values.tolist() == [[[17.0, 15.0], [23.0, 21.0]]]
    assert (part.metrics, part.methods, part.items) == (("y",), ("m2", "m0"), (table.items[1], table.items[3]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items": ["a", "a"]}, "an example is there twice"),
        ({"methods": ["x", "x"]}, "a method is there twice"),
        ({"values": [[[1.0, np.inf], [0.0, 0.0]]]}, "infinite"),
        ({"values": [[1.0, 2.0]]}, r"shape \(1, 2\)"),
        ({"weights": [[1.0]]}, r"weights have the shape \(1, 1\)"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    fit = {"items": ["a", "b"], "methods": ["x", "y"], "higher_is_better": {"k": True}, "values": np.zeros((1, 2, 2))}
    ValueTable.of(**fit)
    with pytest.raises(InputError, match=message):
        ValueTable.of(**{**fit, **change})


def test_two_values_of_one_thing_and_weights_that_disagree_are_refused():
    row = {"item_id": "i", "method": "a", "metric": "aopc", "value": 1.0, "weight": 1.0}
    with pytest.raises(InputError, match="two values"):
        ValueTable.from_arrow(pa.Table.from_pylist([row, row]), HIGHER)
    with pytest.raises(InputError, match="different weights"):
        ValueTable.from_arrow(pa.Table.from_pylist([row, {**row, "method": "b", "weight": 2.0}]), HIGHER)
