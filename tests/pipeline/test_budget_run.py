"""Runs that add examples until the verdict is decided or the time for it is spent."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tiny_experiment import TEXTS, tiny_overrides
from tiny_models import save_tiny

from attribution.errors import InputError
from evaluation.statistics import drawn_order
from pipeline.driver import Stopped
from pipeline.execution.progress import LineProgress
from pipeline.looks import RECORD, Looks
from pipeline.plan import describe_plan
from pipeline.recommendation import recommendation
from pipeline.run import run
from pipeline.runs import Run
from pipeline.validate import load_config

N, FIRST = 40, 8  # examples, and those of the first look
SIZES = [1, 2, 4, 8, 10, 12, 15, 19, 24, 30, 38, 40]
WORDS = sorted({word for text, _ in TEXTS for word in text.split()})
SAME = {"a": "input_x_gradient", "b": "input_x_gradient"}  # which nothing can tell apart
APART = {"o": "occlusion", "a": "raw_attention", "r": "random"}


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for module in ("rounds", "looks"):
        monkeypatch.setattr(f"pipeline.{module}.FIRST_LOOK", FIRST)
    overrides = tiny_overrides(save_tiny("bert", tmp_path / "tiny"), tmp_path)
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(4, 12))) for _ in range(N)]
    lines = "".join(f"{text}\t{'positive' if i % 2 else 'negative'}\n" for i, text in enumerate(texts))
    (tmp_path / "reviews.tsv").write_text(f"sentence\tlabel\n{lines}")
    return [*overrides, "evaluation.metrics=[aopc]", "evaluation.controls=[]", "evaluation.bootstrap_samples=20"]


@pytest.fixture
def minutes(monkeypatch):
    """A clock by which each round takes a minute, and one more for each round that is done while `late` is set."""
    clock = SimpleNamespace(now=0.0, late=0.0)

    def monotonic():
        clock.now += 60 + clock.late
        return clock.now

    monkeypatch.setattr("pipeline.looks.time", SimpleNamespace(monotonic=monotonic, perf_counter=lambda: 0.0))
    return clock


def methods(named):
    return [f"attribution.{label}.method={method}" for label, method in named.items()]


def ran(overrides, said=None):
    said = [] if said is None else said
    return run(load_config(overrides), overrides, LineProgress(said.append)).folder


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def values(folder):
    rows = pq.read_table(folder / "values.parquet").to_pylist()
    return {(row["method"], row["metric"], row["item_id"]): row["value"] for row in rows}


def test_it_stops_as_soon_as_the_verdict_is_decided(base):
    said = []
    folder = ran([*base, *methods(APART), "evaluation.budget=2h"], said)
    found = manifest(folder)["budget"]
    assert (found["stopped"], found["of"]) == ("decided", N)
    assert FIRST <= found["examples"] < N
    assert [each["examples"] for each in found["rounds"]] == SIZES[: SIZES.index(found["examples"]) + 1]
    reached = recommendation(Run(folder))
    assert reached.verdict.decided
    assert reached.compared.anytime
    assert reached.verdict.n == found["examples"] == manifest(folder)["dataset"]["n"]
    (last,) = [line for line in said if line in manifest(folder)["dataset"]["notes"] and " of 2:00:00" in line]
    assert last.endswith(reached.sentence)
    assert "intervals that hold wherever one stops" in (folder / "report.html").read_text()


def test_what_is_explained_is_a_drawn_part_and_has_the_values_of_the_whole(base):
    budgeted = ran([*base, *methods(APART), "evaluation.budget=2h"])
    whole = ran([*base, *methods(APART), "name=whole"])
    items = pq.read_table(whole / "examples.parquet")["item_id"].to_pylist()
    reached = manifest(budgeted)["budget"]["examples"]
    kept = set(drawn_order(items, 0)[:reached])
    for table in ("examples", "predictions"):
        own = pq.read_table(budgeted / f"{table}.parquet")["item_id"].to_pylist()
        assert own == [item for item in items if item in kept]
    everything = values(whole)
    for key, value in values(budgeted).items():
        np.testing.assert_allclose(value, everything[key], atol=1e-6)
    assert {item for *_, item in values(budgeted)} == kept
    assert manifest(whole)["budget"] is None


def test_it_stops_when_the_budget_is_spent_and_says_what_is_undecided(base, minutes):
    said = []
    folder = ran([*base, *methods(SAME), "evaluation.budget=8m"], said)
    found = manifest(folder)["budget"]
    assert (found["stopped"], found["examples"]) == ("spent", 15)  # a minute each; 19 would take 60 / 3 * 4 more
    assert [each["seconds"] for each in found["rounds"]] == [60.0 * (i + 1) for i in range(7)]
    lines = [line for line in said if " of 40 examples" in line]
    assert lines[0] == "1 of 40 examples, 1:00 of 8:00: too few to judge, which takes 8."
    assert lines[3].startswith("8 of 40 examples, 4:00 of 8:00: The data cannot decide on aopc between a and b.")
    assert lines[-1].endswith("The budget is spent: 4 more examples, the next round, would not fit into it.")


def test_a_larger_budget_goes_on_from_the_results_of_a_smaller_one(base, minutes):
    ran([*base, *methods(SAME), "evaluation.budget=8m"])
    minutes.late = -60.0  # nothing takes any time
    larger = ran([*base, *methods(SAME), "evaluation.budget=1h", "name=larger"])
    found = manifest(larger)
    assert (found["budget"]["stopped"], found["budget"]["examples"]) == ("exhausted", N)
    assert found["reuse"]["load_model"]["computed"] == 0
    assert found["reuse"]["attribute"]["reused"] > 0 < found["reuse"]["attribute"]["computed"]
    assert found["reuse"]["attribute"]["reused"] + found["reuse"]["attribute"]["computed"] == len(
        [line for line in (larger / "results.txt").read_text().splitlines() if "attribute" in line]
    )


def test_a_run_that_was_cut_off_and_goes_on_gives_what_one_run_gives(base, minutes, monkeypatch):
    asked = [*base, *methods(SAME), "evaluation.budget=8m"]
    once = ran([*asked, "paths.root=once"])

    end_round = Looks.end_round

    def cut_off(self, found):
        if len(self.passed) == 5:
            raise Stopped("SIGTERM")
        return end_round(self, found)

    with monkeypatch.context() as patch:
        patch.setattr(Looks, "end_round", cut_off)
        with pytest.raises(Stopped):
            ran(asked)
    assert len(json.loads(next(Path("outputs").glob(f"runs/*/{RECORD}")).read_text())["rounds"]) == 5
    resumed = ran(asked)
    assert manifest(resumed)["budget"] == manifest(once)["budget"]
    assert values(resumed) == values(once)
    minutes.late = 600.0
    again = ran(asked)
    assert again == resumed
    assert manifest(again)["budget"] == manifest(once)["budget"]
    assert manifest(again)["reuse"]["attribute"]["computed"] == 0


@pytest.mark.slow
def test_workers_of_ray_give_the_same(base, minutes):
    asked = [*base, *methods(SAME), "evaluation.budget=8m"]
    local = ran([*asked, "paths.root=local"])
    minutes.now = 0.0
    workers = ran([*asked, "paths.root=ray", "cluster=ray", "cluster.workers=2"])
    assert manifest(workers)["budget"] == manifest(local)["budget"]
    assert manifest(workers)["files"] == manifest(local)["files"]


def test_first_examples_are_the_first_that_are_drawn(base):
    other = ["evaluation.other_operators=[delete]", "evaluation.first_examples=6"]
    folder = ran([*base, *methods(APART), *other, "evaluation.budget=2h"])
    own = pq.read_table(folder / "values.parquet").filter(pc.field("metric") == "aopc@delete")
    items = pq.read_table(folder / "examples.parquet")["item_id"].to_pylist()
    assert set(own["item_id"].to_pylist()) == set(drawn_order(items, 0)[:6])


def test_the_plan_says_that_a_run_need_not_come_to_all_of_it(base):
    asked = [*base, *methods(SAME), "evaluation.budget=8m"]
    line = "evaluation.budget=8m: at most all of this, in rounds that end at 1, 2, 4, 8, 10, 12, 15, 19, ... examples"
    assert line in describe_plan(load_config(asked)).splitlines()
    ran(asked)
    assert "evaluation.budget" in describe_plan(load_config(asked))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("evaluation.budget=soon", "evaluation.budget=soon is not a time; write 90s, 10m, 2h, 30d or 2w."),
        ("evaluation.budget=15", "evaluation.budget=15 is not a time; write 90s, 10m, 2h, 30d or 2w."),
        ("evaluation.budget=0m", "evaluation.budget=0m is no time at all; write 90s, 15m or 2h."),
        ("~attribution.b", "evaluation.budget=8m decides between methods; attribution needs two that are no controls."),
        ("evaluation.metrics=[]", "evaluation.budget=8m decides by a metric, and evaluation.metrics names none."),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused(base, override, message):
    with pytest.raises(InputError) as caught:
        load_config([*base, *methods(SAME), "evaluation.budget=8m", override])
    assert str(caught.value) == f"conf error: {message}"
