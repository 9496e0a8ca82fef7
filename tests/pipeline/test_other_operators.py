"""The first examples of a run under other operators: the values are those of a run of its own, and the verdict asks."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tiny_experiment import tiny_overrides
from tiny_models import save_tiny

from attribution.errors import InputError
from pipeline.execution import make_progress
from pipeline.plan import describe_plan
from pipeline.recommendation import recommendation
from pipeline.report.build import render
from pipeline.run import run
from pipeline.runs import Run
from pipeline.schemas import VALUES
from pipeline.validate import load_config

METRICS = ["aopc", "tau_loo"]


def ran(overrides):
    return run(load_config(overrides), overrides, make_progress(silent=True)).folder


def values(folder, metric):
    rows = pq.read_table(folder / "values.parquet").filter(pc.field("metric") == metric).to_pylist()
    return {(row["method"], row["item_id"]): row["value"] for row in rows}


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overrides = tiny_overrides(save_tiny("bert", tmp_path / "tiny"), tmp_path)
    methods = ["attribution.m.method=input_x_gradient", "attribution.g.method=gradcam", "evaluation.controls=[]"]
    return [*overrides, *methods, f"evaluation.metrics=[{','.join([*METRICS, 'gini'])}]", "evaluation.operator=mask"]


def test_values_under_another_operator_are_those_of_a_run_with_it(base):
    both = ran([*base, "evaluation.other_operators=[delete,unk]", "evaluation.first_examples=3"])
    alone = ran([*base, "evaluation.operator=delete", "name=alone"])
    first = set(pq.read_table(both / "examples.parquet")["item_id"].to_pylist()[:3])
    measured = pq.read_table(both / "values.parquet")["metric"].unique().to_pylist()
    assert measured == [*METRICS, "gini", "aopc@delete", "tau_loo@delete", "aopc@unk", "tau_loo@unk"]
    for metric in METRICS:
        found, wanted = values(both, f"{metric}@delete"), values(alone, metric)
        assert {item for _, item in found} == first
        for place, value in found.items():
            np.testing.assert_allclose(value, wanted[place], atol=1e-5)
    assert pq.read_table(both / "curves.parquet")["operator"].unique().to_pylist() == ["mask"]
    counts = json.loads((both / "manifest.json").read_text())
    assert counts["forwards"]["alone"] > counts["forwards"]["run"] > 0


def test_nothing_is_perturbed_twice_and_more_examples_only_add(base):
    asked = [*base, "evaluation.other_operators=[unk]"]
    ran([*asked, "evaluation.first_examples=3"])
    again = ran([*asked, "evaluation.first_examples=3", "name=again"])
    assert json.loads((again / "manifest.json").read_text())["reuse"]["compare_operators"]["computed"] == 0
    every = ran([*asked, "evaluation.first_examples=null", "name=every"])
    assert len(values(every, "aopc@unk")) == len(values(every, "aopc"))


def test_the_plan_counts_them(base):
    def counted(*overrides):
        plan = describe_plan(load_config([*base, "heads=all", "evaluation.metrics=[aopc]", *overrides]))
        (line,) = [line for line in plan.splitlines() if "perturbed inputs" in line]
        return int(line.split("at most ")[1].split(",")[0])

    assert (
        counted("evaluation.other_operators=[unk,delete]", "evaluation.first_examples=2") == counted() + 2 * 2 * 9 * 2
    )


@pytest.mark.parametrize(
    ("operators", "message"),
    [
        ("[erase]", "other_operators: erase is no operator. Choose from mask, pad"),
        ("[mask]", "other_operators: mask is evaluation.operator already"),
        ("[mlm_resample]", "model.lm_head is missing; evaluation.other_operators=mlm_resample needs"),
    ],
)
def test_operators_that_cannot_be_compared_are_refused(base, operators, message):
    with pytest.raises(InputError, match=message):
        load_config([*base, f"evaluation.other_operators={operators}"])


def test_an_order_that_turns_round_is_a_doubt(make_run):
    """Under `delete` the second best method is the best."""
    folder, rng = (
        make_run("turned", n=60, methods=["mask_lrp", "gradcam", "attcat", "random"]),
        np.random.default_rng(0),
    )
    means = {"mask_lrp": 0.8, "gradcam": 0.6, "attcat": 0.3, "random": 0.0}
    turned = {**means, "mask_lrp": 0.5}
    rows = [
        {"item_id": item, "method": method, "metric": metric, "value": rng.normal(mean, 0.05), "weight": 1.0}
        for metric, of in (("aopc", means), ("aopc@delete", turned)) for method, mean in of.items()
        for item in Run(folder).table("examples")["item_id"].to_pylist()
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, schema=VALUES), folder / "values.parquet")
    found = recommendation(Run(folder))
    assert found.table.metrics == ("aopc",)
    (pair,) = found.operators
    assert (pair.operator, pair.other, pair.best, pair.best_other) == ("mask", "delete", "mask_lrp", "gradcam")
    assert pair.tau == pytest.approx(1 / 3)
    assert pair.reversals == (("mask_lrp", "gradcam"),)
    (doubt,) = [doubt for doubt in found.verdict.doubts if doubt.kind == "operator"]
    assert doubt.text.startswith("mask puts mask_lrp first, delete gradcam")
    page = render(Run(folder), "none", 3)
    assert "mask_lrp before gradcam" in page
    assert "aopc@delete" not in page.lower().replace(" ", "")
