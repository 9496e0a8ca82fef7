"""Runs that measure patterns and put them into heads: the numbers are the library's, and none is made twice."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
import torch
from pattern_runs import FILE, STUDENT, go, table, write_patterns
from tiny_experiment import TEXTS, tiny_overrides

from attribution.errors import InputError
from attribution.explainer import Explainer
from attribution.patterns import PatternFile, inject, pattern_relevance
from attribution.patterns.controls import random_heads
from evaluation import evaluate_all
from pipeline.arm_lines import arm_lines
from pipeline.execution import make_progress
from pipeline.plan import describe_plan
from pipeline.report.html import interval, number, signed
from pipeline.run import run
from pipeline.validate import load_config


@pytest.fixture(scope="module")
def base(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return [
        *tiny_overrides(model, folder), "heads=all", f"paths.root={folder / 'outputs'}", "+attribution.random=random",
        f"patterns.path={write_patterns(folder)}", "patterns.random_seeds=[0,1]", "patterns.in_place=true",
        "patterns.control_seeds=[0,1]", "+attribution.ixg=input_x_gradient", "patterns.explained=ixg",
        "evaluation.metrics=[comprehensiveness,aopc]",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def done(base):
    return go(base).folder


@pytest.fixture(scope="module")
def library(explainer):
    """Relevance in one batch, as the library has it."""
    given = explainer.tokenizer([text for text, _ in TEXTS], padding=True, return_tensors="pt")
    patterns = {name: each.pred for name, each in PatternFile.read(FILE).patterns.items()}
    return lambda queries: pattern_relevance(explainer.adapter, [given], patterns, seeds=(0, 1), queries=queries)


@pytest.mark.parametrize("queries", ["all", "applicable"])
def test_relevance_is_the_librarys(done, library, queries):
    found = [row for row in table(done, "patterns") if row["queries"] == queries]
    wanted = library(queries).to_table().to_pylist()
    assert len(found) == len(wanted) > 0
    for row, other in zip(found, wanted, strict=True):
        exact = ("pattern", "layer", "head", "documents", "significant")
        assert [row[name] for name in exact] == [other[name] for name in exact]
        for name in ("relevance", "standard_error", "uniform", "heads_bar", "random_bar"):
            assert row[name] == pytest.approx(other[name], abs=1e-5)


def test_arms_in_place_are_what_injected_models_predict(done, explainer):
    file = PatternFile.read(FILE)
    given = explainer.tokenizer([text for text, _ in TEXTS], padding=True, return_tensors="pt")
    labels = torch.tensor([int(label == "positive") for _, label in TEXTS])
    shape = len(explainer.adapter.layers()), explainer.adapter.n_heads
    arms = {
        "base": [explainer.model],
        "patterns": [inject(explainer.model, explainer.tokenizer, file)],
        "random_heads": [
            inject(explainer.model, explainer.tokenizer, random_heads(file, *shape, seed)) for seed in (0, 1)
        ],
    }
    with torch.no_grad():
        logits = {arm: [model(**given).logits for model in models] for arm, models in arms.items()}
    own = logits["base"][0].log_softmax(-1)
    rows = {(row["arm"], row["metric"]): row for row in table(done, "arms") if row["against"] is None}
    assert {row["study"] for row in rows.values()} == {"in_place"}
    for arm, found in logits.items():
        wanted = {
            "same_decision": [(each.argmax(-1) == own.argmax(-1)).float().mean() for each in found],
            "accuracy": [(each.argmax(-1) == labels).float().mean() for each in found],
            "divergence": [(own.exp() * (own - each.log_softmax(-1))).sum(-1).mean() for each in found],
        }
        for metric, values in wanted.items():
            assert rows[arm, metric]["value"] == pytest.approx(float(torch.stack(values).mean()), abs=1e-5)
            assert (rows[arm, metric]["seeds"], rows[arm, metric]["n"]) == (2, len(TEXTS))
    assert rows["random_patterns", "divergence"]["value"] > 0
    pairs = {(row["arm"], row["against"]) for row in table(done, "arms")}
    assert {("patterns", "random_heads"), ("patterns", "random_patterns"), ("patterns", "base")} <= pairs


def test_explanations_of_every_arm_are_scored_on_its_own_predictions(done, explainer):
    changed = inject(explainer.model, explainer.tokenizer, PatternFile.read(FILE))
    given = explainer.tokenizer([text for text, _ in TEXTS], padding=True, return_tensors="pt")
    rows = {(row["arm"], row["metric"]): row for row in table(done, "arms") if row["against"] is None}
    for arm, model in (("base", explainer.model), ("patterns", changed)):
        own = Explainer(model, explainer.tokenizer)
        scores = own.scores_many(**given, methods={"ixg": {"method": "input_x_gradient"}})
        found = evaluate_all(own, **given, scores=scores, metrics=["comprehensiveness"])
        wanted = float(found.values["ixg"]["comprehensiveness"].mean())
        assert rows[arm, "comprehensiveness"]["value"] == pytest.approx(wanted, abs=1e-5)
    assert rows["patterns", "aopc"]["n"] == len(TEXTS)
    assert rows["random_heads", "aopc"]["spread"] > 0


def test_what_a_text_costs_is_measured_of_every_arm(done):
    rows = {(row["arm"], row["metric"]): row for row in table(done, "arms") if row["against"] is None}
    arms = ("base", "patterns", "random_patterns", "random_heads")
    assert len({rows[arm, "mflops"]["value"] for arm in arms}) == 1
    assert all(rows[arm, "milliseconds"]["value"] > 0 for arm in arms)
    assert rows["base", "sparsity"]["value"] == 0
    sparse = rows["patterns", "sparsity"]["value"]
    assert 0 < sparse < 2 / 12  # in two of twelve heads
    assert [rows[arm, "sparsity"]["value"] for arm in arms[2:]] == pytest.approx([sparse] * 2)


def test_the_report_shows_relevance_and_arms(done):
    page = (done / "report.html").read_text()
    assert "Attention patterns" in page
    assert "Patterns put into heads, without training" in page
    section = page[page.index("Patterns put into heads") :]
    assert f"<b>{number(arm_row(done, 'patterns', 'aopc', None)['value'])}</b> ± 0.000" in section
    for control in ("base", "random_patterns", "random_heads"):
        pair = arm_row(done, "patterns", "aopc", control)
        assert f"{signed(pair['value'])} {interval(pair['low'], pair['high'])}" in section


def arm_row(folder, *wanted):
    (found,) = (row for row in table(folder, "arms") if (row["arm"], row["metric"], row["against"]) == wanted)
    return found


def test_a_study_is_told_as_a_table(done):
    """A line for each value and each difference, under a heading; every metric is named once."""
    heading, *lines = arm_lines(pq.read_table(done / "arms.parquet"))
    assert heading.startswith("Patterns put into heads, without training (2 seeds, ")
    assert len(lines) == len(table(done, "arms"))
    assert [line.split()[:2] for line in lines if line.startswith("  aopc")] == [["aopc", "base"]]
    pair = arm_row(done, "patterns", "aopc", "random_heads")
    told = f"{pair['value']:+.4f} [{pair['low']:+.4f}, {pair['high']:+.4f}]"
    assert sum("less random_heads" in line and line.endswith(told) for line in lines) == 1
    assert not any("-0.0000 [-0.0000, -0.0000]" in line for line in lines)


def test_nothing_is_measured_twice_and_another_pattern_alone_is_new(base, done, tmp_path):
    again = go([*base, "name=again"])
    reuse = json.loads((again.folder / "manifest.json").read_text())["reuse"]
    assert all(counts["computed"] == 0 for counts in reuse.values())
    more = {**FILE["patterns"], "next": {"pred": {"offset": 1}}}
    changed = [*base, "name=more", f"patterns.path={write_patterns(tmp_path, patterns=more)}"]
    counts = json.loads((go(changed).folder / "manifest.json").read_text())["reuse"]
    assert counts["measure_patterns"]["computed"] == counts["measure_patterns"]["reused"] / 2 > 0
    assert counts["inject_patterns"]["computed"] == 0


def test_by_relevance_without_a_relevant_head_nothing_is_put_in_place(base, tmp_path):
    everywhere = {"pred": {"not": {"offset": 0}}}
    path = write_patterns(tmp_path, patterns={"everywhere": everywhere}, inject=STUDENT | {"assign": {
        "strategy": "per_layer_cycle", "order": ["everywhere"]}})  # fmt: skip
    said = []
    overrides = [*base, "name=none", f"patterns.path={path}"]
    progress = make_progress(silent=True)
    progress.message = said.append
    folder = run(load_config(overrides), overrides, progress).folder
    assert "no head is significantly relevant to any pattern: none is put in place" in said
    assert not (folder / "arms.parquet").exists()


def test_a_plan_counts_what_is_to_be_measured(base, done, tmp_path):
    def line(overrides):
        (found,) = [
            each for each in describe_plan(load_config(overrides)).splitlines() if each.startswith("measure_patterns")
        ]
        return found

    reuse = json.loads((done / "manifest.json").read_text())["reuse"]["measure_patterns"]
    tasks = reuse["computed"] // 2  # of two patterns each
    assert line(base) == f"measure_patterns: 0 results to compute in 0 tasks, {2 * tasks} at hand"
    fresh = [*base, f"paths.root={tmp_path}"]
    assert line(fresh) == f"measure_patterns: {2 * tasks} results to compute in {tasks} tasks, 0 at hand"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["patterns.path=null"], "patterns.path is missing; patterns.in_place needs it"),
        (["patterns.explained=lime"], "patterns.explained=lime is not a label of attribution: random, ixg"),
        (["evaluation.metrics=[gini]"], "patterns.explained=ixg: evaluation.metrics=.* has none for it"),
        (["patterns.in_place=false"], "patterns.explained=ixg explains what patterns.in_place=true puts into heads"),
        (["students.train={file}"], "students.test is missing; students.train needs it"),
        (["students.width=10", "students.heads=4"], "students.width=10 is not a multiple of students.heads=4"),
        (["patterns.control_seeds=[]"], r"patterns.control_seeds=\[\] must be different seeds, at least one"),
        (["patterns.queries=some"], "patterns.queries=some is not a choice"),
        (["patterns.path=nowhere.yaml"], "patterns.path=nowhere.yaml does not exist; give a file"),
    ],
)
def test_settings_that_mean_nothing_are_refused(base, tmp_path, changes, message):
    (tmp_path / "file.jsonl").write_text("")
    with pytest.raises(InputError, match=message):
        load_config([*base, *(change.format(file=tmp_path / "file.jsonl") for change in changes)])


def test_patterns_that_need_trees_are_refused(base, tmp_path):
    trees = {"subject": {"pred": {"dependency": {"relation": "nsubj"}}}}
    overrides = [*base, f"patterns.path={write_patterns(tmp_path, patterns=trees, inject=None)}"]
    with pytest.raises(
        InputError, match=r"patterns\.yaml: patterns: dependency nsubj needs trees.*patterns\.trees=FILE"
    ):
        go(overrides)
