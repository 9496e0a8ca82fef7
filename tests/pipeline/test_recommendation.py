"""What a run recommends: in its report, in `headlight compare`, and that it says so where the data cannot decide."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attribution.methods.registry import METHODS
from pipeline.cli import main
from pipeline.recommendation import costs, recommendation, sentence
from pipeline.report.build import render
from pipeline.runs import Run
from pipeline.schemas import VALUES

MEANS = {"mask_lrp": 0.8, "gradcam": 0.5, "attcat": 0.3, "random": 0.1}


def with_values(folder, means, n=60, spread=0.05, metrics=("aopc",)):
    """A run folder whose values are drawn around these means."""
    rng = np.random.default_rng(0)
    rows = [
        {"item_id": f"i{item}", "method": method, "metric": metric, "value": rng.normal(mean, spread), "weight": 1.0}
        for method, mean in means.items() for metric in metrics for item in range(n)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, schema=VALUES), folder / "values.parquet")
    return folder


@pytest.fixture
def decided(make_run):
    return with_values(make_run("clear", methods=list(MEANS)), MEANS)


def test_the_best_is_recommended_with_reasons(decided):
    found = recommendation(Run(decided))
    assert found.verdict.method == "mask_lrp"
    assert found.sentence == "Use mask_lrp: on aopc it is better than every other method measured."
    assert {reason.kind for reason in found.verdict.reasons} >= {"ahead", "above_control"}
    assert next((rank.method, rank.best, rank.worst) for rank in found.places) == ("mask_lrp", 1, 1)
    assert "random" not in found.verdict.group


def test_data_that_cannot_decide_say_between_whom_and_how_many_more(make_run):
    means = {"mask_lrp": 0.5, "gradcam": 0.505, "attcat": 0.3, "random": 0.1}
    found = recommendation(Run(with_values(make_run("close", methods=list(means)), means, spread=0.1)))
    assert found.verdict.method is None
    assert found.sentence.startswith("The data cannot decide on aopc between ")
    assert {"mask_lrp", "gradcam"} == set(found.verdict.group)


def test_no_better_than_random_recommends_nothing(make_run):
    means = {"mask_lrp": 0.1, "gradcam": 0.1, "random": 0.1}
    found = recommendation(Run(with_values(make_run("chance", methods=list(means)), means, spread=0.2)))
    assert found.sentence.startswith("No method is recommended: ")
    assert "is not shown to beat the control random." in found.sentence
    assert any(doubt.kind == "control" for doubt in found.verdict.doubts)


def test_a_sentence_names_at_most_so_many_methods(make_run):
    means = {f"{name}_{i}": 0.5 for i in range(4) for name in ("gradcam", "attcat")} | {"random": 0.1}
    found = recommendation(Run(with_values(make_run("many", methods=["gradcam", "random"]), means))).verdict
    first = ", ".join(found.group[:3])
    assert len(found.group) == 8
    assert sentence(found, most=3).startswith(f"The data cannot decide on aopc between {first} and 5 others.")
    assert "others" not in sentence(found, most=7)  # one more takes no more room than `1 others`
    assert sentence(found) == sentence(found, most=8)


def test_a_run_with_a_budget_is_judged_by_what_holds_wherever_one_stops(decided):
    fixed = recommendation(Run(decided)).compared.difference("mask_lrp", "gradcam", "aopc")
    path = decided / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"budget": {"budget": "15m"}}))
    found = recommendation(Run(decided))
    own = found.compared.difference("mask_lrp", "gradcam", "aopc")
    assert found.rule.anytime
    assert own.low < fixed.low < own.value < fixed.high < own.high
    assert "intervals that hold wherever one stops" in render(Run(decided), "none", 3)


def test_one_method_alone_is_not_compared(make_run):
    run = Run(with_values(make_run("alone", methods=["gradcam", "random"]), {"gradcam": 0.5, "random": 0.1}))
    assert recommendation(run) is None
    assert 'id="verdict"' not in render(run, "none", 3)


def test_a_run_without_values_has_no_verdict(make_run):
    assert recommendation(Run(with_values(make_run("bare"), {}))) is None


def test_costs_count_a_backward_as_two_forwards_and_what_a_method_asked_for(decided):
    path = decided / "attributions.parquet"
    rows = pq.read_table(path).to_pylist()
    for row in rows:
        if row["method"] == "attcat":
            row |= {"forwards": 10, "backwards": 3}
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)
    found = costs(Run(decided))
    assert found["attcat"] == 1 + 10 + 2 * 3
    assert found["gradcam"] == 1 + 2 * METHODS["gradcam"].backwards
    assert found["random"] == 1


def test_the_report_shows_verdict_wins_ranks_and_costs(decided):
    page = render(Run(decided), "none", 3)
    section = page[page.index('id="verdict"') : page.index('id="methods"')]
    assert "Use mask_lrp: on aopc" in section
    for part in ("Win matrix", "Critical difference", "against cost"):
        assert part in section
    assert section.count("<svg") == 2
    assert section.count("<circle") == len(MEANS) - 1
    assert ">random<" not in section  # a control is no candidate
    assert "nan" not in section.lower().replace("nan_", "")


def test_compare_prints_each_verdict_and_mean_ranks(decided, make_run, capsys):
    other = with_values(make_run("other", methods=list(MEANS)), MEANS, n=50)
    assert main(["compare", str(decided), str(other)]) == 0
    said = capsys.readouterr().out
    assert said.count("Use mask_lrp: on aopc it is better") == 2
    assert "  because mask_lrp is better than 2 of the 2 other methods on aopc" in said
    assert "mean ranks over 2 runs on aopc" in said
    assert said.rstrip().splitlines()[-3].split() == ["1.00", "mask_lrp"]


def test_another_metric_may_decide(decided, capsys):
    with_values(decided, {"mask_lrp": 0.8, "gradcam": 0.5, "random": 0.9}, metrics=("aopc", "log_odds"))
    assert main(["compare", str(decided), "--metric", "log_odds"]) == 0
    assert "Use gradcam: on log_odds" in capsys.readouterr().out
    assert main(["compare", str(decided), "--metric", "gini"]) == 4
    assert "metric=gini was not measured; choose from aopc, log_odds" in capsys.readouterr().err


def test_runs_led_by_different_metrics_have_no_mean_ranks(decided, make_run, capsys):
    other = with_values(make_run("other", methods=list(MEANS)), MEANS, metrics=("comprehensiveness",))
    assert main(["compare", str(decided), str(other)]) == 0
    assert "no mean ranks: the runs are led by aopc, comprehensiveness" in capsys.readouterr().out
