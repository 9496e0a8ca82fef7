"""A run that looks for every role and importance: the numbers are the library's, and nothing is computed twice."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tiny_experiment import TEXTS, tiny_overrides
from tiny_models import WORDS

from attribution.errors import InputError
from attribution.heads import HeadScores, attention_roles, head_distances, head_importances
from attribution.heads.masks import head_mask
from attribution.heads.text_roles import count_roles, role_scores
from evaluation.head_pruning import pruning_curves
from evaluation.randomised import random_model
from pipeline.data.grammar import grammar_treebank
from pipeline.execution import make_progress
from pipeline.plan import describe_plan
from pipeline.run import run
from pipeline.stages.identify_heads import COMPARED, REPORT_SEED, batches
from pipeline.store import Store
from pipeline.validate import load_config

OTHERS = [
    (f"the {word} film was {other} .", "positive" if number % 2 else "negative")
    for number, (word, other) in enumerate(zip(WORDS[3:12], WORDS[8:17], strict=True))
]
IMPORTANCE = {
    "gate": {"method": "gate_grad"},
    "loo": {"method": "leave_one_out"},
    "mean": {"method": "leave_one_out", "ablation": "mean"},
    "gates": {"method": "l0_gates", "parts": 2, "steps": 3, "batch": 3},
}


@pytest.fixture(scope="module")
def base(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    texts = folder / "others.tsv"
    texts.write_text("sentence\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in [*OTHERS, TEXTS[0]]))
    return [
        *tiny_overrides(model, folder), f"paths.root={folder / 'outputs'}", f"heads.texts={texts}",
        "heads.roles=[positional,syntactic,attention,distance]", "heads.relations=[all]", "heads.min_cases=20",
        "heads.sentences=40", "heads.controls=[shuffled_trees,random_model]", "heads.random_seeds=[0,1]",
        "heads.clusters=3", f"heads.frequencies={texts}", "heads.curves=true", "heads.curve_steps=4",
        "+attribution.top={method: mask_lrp, head_mask: 'top(importance:gate, 0.25)'}",
        "+attribution.next={method: mask_lrp, head_mask: 'top(next, 3)'}",
        "evaluation.metrics=[aopc]", "evaluation.controls=[]", "evaluation.own_controls=2",
        *(f"+heads.importance.{label}={{{', '.join(f'{k}: {v}' for k, v in spec.items())}}}"
          for label, spec in IMPORTANCE.items()),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def done(base):
    return run(load_config(base), base, make_progress(silent=True)).folder


def table(folder, name):
    return pq.read_table(folder / f"{name}.parquet").to_pylist()


def encoded(explainer, pairs):
    given = explainer.tokenizer([text for text, _ in pairs], padding=True, return_tensors="pt")
    return {**given, "labels": torch.tensor([int(label == "positive") for _, label in pairs])}


@pytest.fixture(scope="module")
def importances(explainer):
    return head_importances(explainer, [encoded(explainer, OTHERS)], methods=IMPORTANCE)


@pytest.mark.parametrize("label", IMPORTANCE)
def test_importance_is_that_of_the_texts_that_are_not_explained(done, importances, label):
    found, expected = HeadScores.load(done / "heads.parquet"), importances[label]
    role = f"importance:{label}"
    torch.testing.assert_close(found.scores[role], expected.scores, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.interval[role], expected.interval, rtol=1e-3, atol=1e-5)
    assert found.count[role] == (2 if label == "gates" else len(OTHERS))
    assert not found.selected[role].any()


def test_curves_are_those_of_the_explained_examples(done, explainer, importances):
    rankings = {label: each.scores for label, each in importances.items()}
    given = [encoded(explainer, TEXTS)]
    curves = pruning_curves(explainer, given, rankings, fractions=[step / 4 for step in range(5)])
    found = {(row["ranking"], row["order"], row["removed"]): row for row in table(done, "pruning")}
    for label, each in curves.items():
        for way, curve in each.ways.items():
            for number, removed in enumerate(curve.removed.tolist()):
                row = found[label, way, removed]
                assert row["loss"] == pytest.approx(float(curve.loss[number].mean()), abs=1e-5)
                assert row["decided"] == pytest.approx(float(curve.decided[number].mean()))
                assert row["n"] == len(TEXTS)
    worth = {(row["ranking"], row["measure"], row["order"]): row for row in table(done, "rankings")}
    for way, interval in curves["gate"].against_random("loss").items():
        row = worth["gate", "loss", way]
        assert [row["value"], row["low"], row["high"]] == pytest.approx(list(interval[:3]), abs=1e-5)
        assert row["beaten"] == curves["gate"].beaten("loss", way)
    assert {row["order"] for row in table(done, "pruning") if row["ranking"] == "random"} == set("01234")
    assert worth["loo", "spearman", None]["n"] == len(OTHERS)


def test_roles_are_the_librarys(done, explainer):
    select, report = grammar_treebank(40, 0), grammar_treebank(40, REPORT_SEED)
    texts, told = ([sentence.text for sentence in each] for each in (select, report))
    often = torch.bincount(
        torch.tensor([i for text, _ in [*OTHERS, TEXTS[0]] for i in explainer.tokenizer(text)["input_ids"][1:-1]]),
        minlength=len(explainer.tokenizer),
    )
    random = [count_roles(random_model(explainer, seed).adapter, batches(explainer, texts)) for seed in (0, 1)]
    expected = attention_roles(
        explainer, batches(explainer, texts), report=batches(explainer, told), random=random, frequencies=often
    )
    found = HeadScores.load(done / "heads.parquet")
    for role, scores in expected.scores.items():
        torch.testing.assert_close(found.scores[role], scores, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.report[role], expected.report[role], rtol=1e-4, atol=1e-5)
        assert torch.equal(found.selected[role], expected.selected[role])
        assert found.baseline[role] == pytest.approx(expected.baseline[role], abs=1e-5)
    relations = {role.split(":")[1] for role in found.scores if role.startswith("syntactic")}
    assert relations > {"nsubj", "obj"}
    rows = [row for row in table(done, "head_controls") if row["role"] == "next"]
    assert [(row["control"], row["seed"]) for row in rows] == [
        ("model", None),
        ("random_model", 0),
        ("random_model", 1),
    ]
    for row, sums in zip(rows[1:], random, strict=True):
        assert row["best"] == pytest.approx(float(role_scores(sums).scores["next"].max()), abs=1e-5)
    shuffled = [row for row in table(done, "head_controls") if row["control"] == "shuffled_trees"]
    assert {row["role"] for row in shuffled} == {role for role in found.scores if role.startswith("syntactic")}


def test_clusters_are_the_librarys(done, explainer):
    texts = [sentence.text for sentence in grammar_treebank(40, 0)][:COMPARED]
    expected = head_distances(explainer, batches(explainer, texts))
    rows = table(done, "head_clusters")
    assert [row["cluster"] for row in rows] == expected.clusters(3).flatten().tolist()
    places = np.array([[row["x"], row["y"]] for row in rows])
    np.testing.assert_allclose(places, expected.coordinates().flatten(0, 1), atol=1e-5)


def test_methods_take_the_heads_of_an_importance_and_are_compared_with_their_own_controls(done):
    heads = HeadScores.load(done / "heads.parquet")
    manifest = json.loads((done / "manifest.json").read_text())
    for label in ("top", "top_random_1", "next"):
        about = manifest["methods"][label]
        assert about["head_mask"] == head_mask(about["params"]["head_mask"], heads).int().tolist(), label
    pairs = {(row["method"], row["against"]) for row in table(done, "metrics")}
    against = {method: {of for label, of in pairs if label == method and of} for method in ("top", "next")}
    assert against == {"top": {"top_random_*"}, "next": {"next_random_*"}}


def test_the_report_shows_heads_curves_and_controls(done):
    page = (done / "report.html").read_text()
    for words in (
        "Every head",
        "What the rankings are worth",
        "share of heads",
        "Found by chance",
        "attend alike",
        "rankings agree",
    ):
        assert words in page, words
    assert "heads were selected on the built-in grammar, which has" in page
    assert f"importance of heads was found on {len(OTHERS)} texts: others.tsv" in page


def test_what_is_there_is_not_computed_again(base, done):
    more = [*base, "+heads.importance.token.method=gate_grad_token", "name=more"]
    again = run(load_config(more), more, make_progress(silent=True)).folder
    reuse = json.loads((again / "manifest.json").read_text())["reuse"]
    before = json.loads((done / "manifest.json").read_text())["reuse"]
    assert reuse["identify_heads"]["computed"] == 0
    assert 0 < reuse["weigh_heads"]["computed"] < before["weigh_heads"]["computed"]
    assert 0 < reuse["prune_heads"]["computed"] < before["prune_heads"]["computed"]
    plan = describe_plan(load_config(more))
    assert "weigh_heads: 0 results to compute" in plan


@pytest.fixture(scope="module")
def weighing(base):
    """The same importances and curves, and nothing searched for."""
    left_out = ("heads.roles", "heads.controls", "+attribution", "evaluation.own")
    kept = [each for each in base if not each.startswith(left_out)]
    return [*kept, "+attribution.r.method=random", "heads.source=all", "heads.random_orders=2", "heads.curve_steps=2"]


@pytest.fixture(scope="module")
def in_peace(weighing, tmp_path_factory):
    given = [*weighing, f"paths.root={tmp_path_factory.mktemp('peace')}"]
    return files(run(load_config(given), given, make_progress(silent=True)).folder)


def files(folder):
    return json.loads((folder / "manifest.json").read_text())["files"]


@pytest.mark.parametrize("stage", ["weigh_heads", "prune_heads"])
def test_what_is_damaged_is_computed_again(weighing, in_peace, tmp_path, damage, stage):
    damaged, given = damage(stage), [*weighing, f"paths.root={tmp_path}"]
    assert files(run(load_config(given), given, make_progress(silent=True)).folder) == in_peace
    assert damaged


@pytest.mark.parametrize(("stage", "number"), [("weigh_heads", 3), ("prune_heads", 4)])
def test_a_run_that_broke_off_goes_on_where_it_was(weighing, in_peace, tmp_path, monkeypatch, stage, number):
    original, put = Store.put, []

    def breaking_off(store, key, table, kind):
        if kind == stage and len(put) == number:
            raise KeyboardInterrupt
        put.extend([key] if kind == stage else [])
        return original(store, key, table, kind)

    given = [*weighing, f"paths.root={tmp_path}"]
    monkeypatch.setattr(Store, "put", breaking_off)
    with pytest.raises(KeyboardInterrupt):
        run(load_config(given), given, make_progress(silent=True))
    monkeypatch.undo()
    folder = run(load_config(given), given, make_progress(silent=True)).folder
    assert files(folder) == in_peace
    assert json.loads((folder / "manifest.json").read_text())["reuse"][stage]["reused"] == number


@pytest.mark.slow
def test_ray_workers_give_the_same_bytes(base, done, tmp_path):
    given = [*base, f"paths.root={tmp_path}", "cluster=ray", "cluster.workers=2"]
    found = run(load_config(given), given, make_progress(silent=True)).folder
    assert files(found) == files(done)


def test_a_plan_tells_what_importance_and_curves_take(base, tmp_path):
    plan = describe_plan(load_config([*base, f"paths.root={tmp_path}"]), probe=True).splitlines()
    (time,) = (line for line in plan if line.startswith("time:"))
    assert "weigh_heads" in time
    assert "prune_heads" in time
    rankings, orders = len(IMPORTANCE), 2 * len(IMPORTANCE) + 5
    assert f"importance of heads: {len(OTHERS)} texts in 5 microbatches, {rankings} rankings" in plan
    assert (
        f"loo: {12 * len(OTHERS)} texts forward and 0 back beside the pass that serves all (ablation=zero, seed=0)"
        in plan
    )
    (gates,) = (line for line in plan if line.startswith("gates: "))
    assert gates.startswith("gates: 18 texts forward and 18 back")  # 2 parts x 3 steps x 3 texts
    assert "parts=2, steps=3, batch=3" in gates
    assert (
        f"pruning: {orders} orders, at most {3 * orders + 2} sets of heads removed from {len(TEXTS)} examples" in plan
    )
    (ahead,) = (line for line in plan if line.startswith("prune_heads:"))
    assert ahead.endswith("known once heads are weighed")


@pytest.mark.usefixtures("done")
def test_a_plan_knows_the_curves_once_heads_are_weighed(base):
    plan = describe_plan(load_config([*base, "heads.curve_steps=3"])).splitlines()
    (line,) = (line for line in plan if line.startswith("prune_heads:"))
    assert line == f"prune_heads: {6 * (2 * len(IMPORTANCE) + 5)} results to compute in 6 tasks, 0 at hand"


def test_texts_that_are_all_explained_are_refused(base, tmp_path):
    texts = tmp_path / "same.tsv"
    texts.write_text("sentence\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in TEXTS))
    overrides = [*base, f"heads.texts={texts}", f"paths.root={tmp_path}"]
    with pytest.raises(InputError, match=r"heads.texts=.*: heads.importance.gate is found on texts that the run does"):
        run(load_config(overrides), overrides, make_progress(silent=True))


WRONG = {
    "heads.roles=[positonal]": "heads.roles: positonal is not a choice. Did you mean positional",
    "heads.controls=[random]": "heads.controls: random is not a choice.",
    "+heads.importance.x.method=gradient": "heads.importance.x: importance=gradient is not a method",
    "+heads.importance.x={method: leave_one_out, ablation: none}": "importance.ablation=none is not known",
    "+attribution.x={method: mask_lrp, head_mask: 'top(importance:no, 3)'}": "names an importance that heads.",
    "+attribution.x={method: mask_lrp, head_mask: 'role(nxt)'}": "names a role that does not exist. Did you mean next",
    "+attribution.x={method: mask_lrp, head_mask: 'top(induction, 3)'}": "names a role of the kind induction",
    "heads.roles=[distance]": "heads.roles=['distance'] has no role. Add one of positional, syntactic",
    "heads.n_texts=1": "heads.n_texts=1 must be at least 2",
}


@pytest.mark.parametrize(("override", "message"), WRONG.items())
def test_what_cannot_be_looked_for_is_named(base, override, message):
    with pytest.raises(InputError) as error:
        load_config([*base, override])
    assert message in str(error.value)


def test_masks_of_roles_that_are_not_looked_for_are_refused_before_any_work(model, tmp_path):
    asked = ["heads=gate_grad", "evaluation.controls=[]", "+attribution.m={method: mask_lrp, head_mask: both}"]
    with pytest.raises(InputError, match=r"heads=positional is not a kind of head .* They have: importance"):
        describe_plan(load_config([*tiny_overrides(model, tmp_path), *asked]))


def test_curves_need_an_importance(model, tmp_path):
    with pytest.raises(InputError, match=r"heads\.curves=true judges rankings, but heads.importance has none"):
        load_config([*tiny_overrides(model, tmp_path), "+attribution.m.method=gradcam", "heads.curves=true"])
