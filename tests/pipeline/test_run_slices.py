"""A run's examples in slices, and the slice on which the recommended method is worst."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.recommendation import recommendation
from pipeline.report.build import render
from pipeline.runs import Run
from pipeline.schemas import VALUES
from pipeline.slices import example_facts, run_slices

METHODS = ["mask_lrp", "gradcam", "random"]


@pytest.fixture
def weak_on_the_wrong(make_run):
    """A run whose best method is only as good as another where the prediction is wrong."""
    folder = make_run("sliced", n=300, methods=METHODS)
    run = Run(folder)
    wrong = run_slices(run)["prediction wrong"]
    rows = [
        {"item_id": item, "method": method, "metric": "aopc", "weight": 1.0,
         "value": mean + 0.01 * (place % 7) - (0.3 if method == "mask_lrp" and item in wrong else 0)}
        for method, mean in zip(METHODS, (0.9, 0.4, 0.1), strict=True)
        for place, item in enumerate(run.table("examples")["item_id"].to_pylist())
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, schema=VALUES), folder / "values.parquet")
    return folder


def test_slices_part_the_examples_by_what_the_tables_say(make_run):
    run = Run(make_run("parts", n=40))
    examples = {row["item_id"]: row for row in run.table("examples").to_pylist()}
    slices = run_slices(run)
    right = {row["item_id"] for row in run.table("predictions").to_pylist()
             if row["predicted"] == examples[row["item_id"]]["label"]}  # fmt: skip
    assert slices["prediction right"] == right
    assert slices["class positive"] == {item for item, row in examples.items() if row["label"] == 1}
    assert slices["truncated yes"] == {item for item, row in examples.items() if row["truncated"]}
    assert not [name for name in slices if name.startswith("negation")]  # all of these texts negate
    lengths = [members for name, members in slices.items() if name.startswith("length")]
    assert sum(map(len, lengths)) == len(examples)


def test_a_question_is_right_where_its_span_was_found(make_run):
    run = Run(make_run("asked", task="question_answering", n=6))
    facts = example_facts(run)
    assert {fact.predicted == fact.label for fact in facts.values()} == {True}
    for row in run.table("predictions").to_pylist():
        assert facts[row["item_id"]].confidence == pytest.approx(row["probabilities"][0] * row["probabilities"][1])
    path = run.folder / "predictions.parquet"
    rows = [{**row, "predicted_end": row["predicted_end"] + 1} for row in pq.read_table(path).to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)
    assert {fact.predicted == fact.label for fact in example_facts(run).values()} == {False}


def test_the_worst_slice_is_a_doubt_and_stands_in_the_report(weak_on_the_wrong):
    found = recommendation(Run(weak_on_the_wrong))
    assert found.verdict.method == "mask_lrp"
    (doubt,) = [doubt for doubt in found.verdict.doubts if doubt.kind == "slice"]
    assert "mask_lrp does worst where prediction wrong" in doubt.text
    assert doubt.value == pytest.approx(-0.3, abs=0.03)
    page = render(Run(weak_on_the_wrong), "none", 3)
    assert "Where mask_lrp does worse: prediction wrong" in page
    assert page.count('class="tag">worst<') == 1
