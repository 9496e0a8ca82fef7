"""Students trained in runs: every arm with every seed, none twice, each with a curve in the record."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from pattern_runs import STUDENT, go, table, write_documents, write_patterns
from tiny_experiment import tiny_overrides
from tiny_models import save_tiny
from transformers import AutoModelForTokenClassification, AutoTokenizer

from attribution.errors import InputError
from attribution.summaries import score_sentences
from evaluation import summaries
from evaluation.summaries import score_summary
from pipeline.data.summaries import load_documents
from pipeline.runs import Run
from pipeline.stages.train_student import values_of
from pipeline.students import documents_of
from pipeline.tracking.payload import parent_payload
from pipeline.validate import load_config


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    model = save_tiny("bert", tmp_path_factory.mktemp("model"))
    return [
        *tiny_overrides(model, folder), "heads=all", f"paths.root={folder / 'outputs'}", "+attribution.random=random",
        "patterns.random_seeds=[0]", "evaluation.metrics=[comprehensiveness]", "+attribution.ixg=input_x_gradient",
        "patterns.explained=ixg", "students.explained=4",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("students")
    train, test = write_documents(folder, "train", 12, 0), write_documents(folder, "test", 6, 1)
    overrides = [
        *base, "name=students", f"patterns.path={write_patterns(folder, inject=STUDENT)}",
        f"students.train={train}", f"students.test={test}", "students.layers=1", "students.heads=2",
        "students.width=8", "students.epochs=2", "students.batch_size=4", "students.seeds=[0,1]",
    ]  # fmt: skip
    return overrides, go(overrides).folder, test


def test_students_are_trained_in_every_arm_with_every_seed(trained):
    _, folder, test = trained
    rows = {(row["arm"], row["metric"]): row for row in table(folder, "arms") if row["against"] is None}
    assert {arm for arm, _ in rows} == {"first_sentences", "base", "patterns", "random_patterns"}
    documents = load_documents(test)
    first = [
        score_summary([0.0, -1.0, -2.0], each.sentences, each.references, each.oracle).rouge["rouge1"]
        for each in documents
    ]
    assert rows["first_sentences", "rouge1"]["value"] == pytest.approx(np.mean(first))
    assert rows["first_sentences", "rouge1"]["spread"] == 0
    losses = table(folder, "losses")
    steps = [(row["seed"], row["epoch"]) for row in losses if row["arm"] == "patterns"]
    assert steps == [(0, 1), (0, 2), (1, 1), (1, 2)]
    by_arm = {arm: [row["loss"] for row in losses if row["arm"] == arm] for arm in ("base", "patterns")}
    assert by_arm["base"] != by_arm["patterns"]


def test_the_record_has_a_curve_for_each_student_and_what_the_arms_reached(trained):
    payload = parent_payload(Run(trained[1]))
    assert set(payload.curves) == {
        f"loss/students/{arm}/{seed}" for arm in ("base", "patterns", "random_patterns") for seed in (0, 1)
    }
    assert all(set(curve) == {1, 2} for curve in payload.curves.values())
    rows = [row for row in table(trained[1], "arms") if row["against"] is None]
    values = {row["arm"]: row["value"] for row in rows if row["metric"] == "rouge1"}
    assert payload.scalars["students/rouge1/base"] == values["base"]


def test_each_arm_explains_what_it_chooses_itself(trained):
    rows = {(row["arm"], row["metric"], row["against"]): row for row in table(trained[1], "arms")}
    own = {arm: rows[arm, "comprehensiveness", None] for arm in ("base", "patterns", "random_patterns")}
    assert {(row["n"], row["seeds"]) for row in own.values()} == {(4, 2)}
    assert len({row["value"] for row in own.values()}) == 3
    pair = rows["patterns", "comprehensiveness", "base"]
    assert pair["value"] == pytest.approx(own["patterns"]["value"] - own["base"]["value"])
    assert pair["low"] <= pair["value"] <= pair["high"]
    assert ("first_sentences", "comprehensiveness", None) not in rows


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["patterns.explained=null"], r"patterns\.explained is missing; students\.explained=4 needs it"),
        (["students.train=null", "students.test=null"], r"students\.train is missing; students\.explained=4 needs it"),
        (["evaluation.unit=word"], r"students\.explained=4 is for evaluation\.unit=token"),
        (["+attribution.roll=attention_rollout", "patterns.explained=roll"], "explains no choice of sentences"),
    ],
)
def test_choices_that_cannot_be_explained_are_refused(trained, changes, message):
    with pytest.raises(InputError, match=message):
        load_config([*trained[0], *changes])


def test_what_a_document_costs_is_in_the_arms(trained):
    rows = {(row["arm"], row["metric"]): row for row in table(trained[1], "arms") if row["against"] is None}
    arms = ("base", "patterns", "random_patterns")
    assert len({rows[arm, "mflops"]["value"] for arm in arms}) == 1  # dense products, whatever is left out
    assert all(rows[arm, "milliseconds"]["value"] > 0 for arm in arms)
    assert rows["base", "sparsity"]["value"] == 0
    assert rows["random_patterns", "sparsity"]["value"] == pytest.approx(rows["patterns", "sparsity"]["value"])
    assert rows["patterns", "sparsity"]["value"] > 0.2
    assert rows["patterns", "mflops"]["n"] == 6
    assert ("first_sentences", "mflops") not in rows


def test_the_report_shows_the_students(trained):
    page = (trained[1] / "report.html").read_text()
    assert "Students trained to choose sentences" in page
    assert "saves nothing here" in page


def test_students_are_not_trained_twice_and_a_seed_more_is_three_students_more(trained):
    overrides, _, _ = trained
    counts = json.loads((go([*overrides, "name=more", "students.seeds=[0,1,2]"]).folder / "manifest.json").read_text())
    assert counts["reuse"]["train_student"] == {"computed": 3, "reused": 6}


def test_projected_attention_is_trained_beside_the_model_of_the_run(trained, tmp_path):
    overrides, _, _ = trained
    pal = {"target": "pal", "pal": {"width": 8, "heads": 2}, "assign": STUDENT["assign"]}
    path = write_patterns(tmp_path, inject=pal)
    folder = go([*overrides, "name=pal", f"patterns.path={path}", "students.seeds=[0]", "students.epochs=1"]).folder
    losses = {row["arm"]: row["loss"] for row in table(folder, "losses")}
    assert set(losses) == {"base", "patterns", "random_patterns", "without_patterns"}
    assert len(set(losses.values())) == 4


@pytest.fixture(scope="module")
def projected(trained):
    overrides, _, _ = trained
    return go([*overrides, "name=projected", "students.projected=4", "students.keep=true"]).folder


def test_projected_attention_begins_as_each_trained_base_student(projected):
    losses = {(row["study"], row["arm"], row["seed"], row["epoch"]): row["loss"] for row in table(projected, "losses")}
    arms = ("base", "patterns", "random_patterns", "without_patterns")
    assert {key[1:3] for key in losses if key[0] == "projected"} == {(arm, seed) for arm in arms for seed in (0, 1)}
    for seed in (0, 1):
        assert len({losses["projected", arm, seed, 2] for arm in arms}) == 4
    names = {folder: parameters(projected / folder) for folder in ("students/base-0", "projected/base-0")}
    assert names["students/base-0"] == names["projected/base-0"]
    with_patterns, without = (parameters(projected / f"projected/{arm}-0") for arm in ("patterns", "without_patterns"))
    assert names["projected/base-0"] < with_patterns == without


def parameters(folder):
    return {name for name, _ in AutoModelForTokenClassification.from_pretrained(folder).named_parameters()}


def test_what_adds_nothing_yet_chooses_as_the_student_it_stands_beside(trained):
    """At a rate of next to nothing all that begin as a student stay as it was."""
    changes = ["name=still", "students.projected=4", "students.seeds=[0]", "students.learning_rate=1e-30"]
    rows = [row for row in table(go([*trained[0], *changes]).folder, "arms") if row["against"] is None]
    values = {(row["study"], row["arm"]): row["value"] for row in rows if row["metric"] == "comprehensiveness"}
    wanted = pytest.approx(values["students", "base"])
    assert [values["projected", arm] for arm in ("base", "patterns", "without_patterns")] == [wanted] * 3
    assert values["students", "patterns"] != wanted


def test_projected_arms_are_compared_in_a_study_of_their_own(projected):
    rows = [row for row in table(projected, "arms") if row["study"] == "projected"]
    pairs = {(row["arm"], row["against"]) for row in rows if row["metric"] == "rouge1"}
    assert {("patterns", control) for control in ("base", "random_patterns", "without_patterns")} <= pairs
    cost = {row["arm"]: row["value"] for row in rows if row["metric"] == "mflops" and row["against"] is None}
    assert cost["base"] < cost["patterns"] == cost["without_patterns"]
    assert "Projected attention beside trained students" in (projected / "report.html").read_text()


def test_what_was_kept_of_bases_is_begun_with_again(trained, projected):
    counts = json.loads((projected / "manifest.json").read_text())["reuse"]["train_student"]
    assert counts == {"computed": 22, "reused": 6}  # what six students reached was there; their files were not
    again = go([*trained[0], "name=projected_again", "students.projected=4"]).folder
    assert json.loads((again / "manifest.json").read_text())["reuse"]["train_student"]["computed"] == 0


def test_projected_attention_is_refused_where_it_would_stand_beside_itself(trained, tmp_path):
    pal = {"target": "pal", "pal": {"width": 8, "heads": 2}, "assign": STUDENT["assign"]}
    changes = [f"patterns.path={write_patterns(tmp_path, inject=pal)}", "students.projected=4"]
    with pytest.raises(InputError, match=r"students\.projected needs inject\.target: student; .* has pal"):
        go([*trained[0], *changes])
    with pytest.raises(InputError, match=r"students\.projected=3 is not a multiple of students\.heads=2"):
        load_config([*trained[0], "students.projected=3"])


def test_a_teacher_comes_first_and_students_of_its_logits_are_arms_of_their_own(trained):
    overrides, _, _ = trained
    changes = ["name=distilled", "students.distilled=0.5", "students.seeds=[0]"]
    folder = go([*overrides, *changes]).folder
    counts = json.loads((folder / "manifest.json").read_text())["reuse"]["train_student"]
    assert counts["computed"] == 3
    losses = {row["arm"]: row["loss"] for row in table(folder, "losses") if row["epoch"] == 2}
    assert set(losses) == {"base", "patterns", "random_patterns", "teacher", "distilled", "distilled_patterns"}
    assert len(set(losses.values())) == 6
    pairs = {(row["arm"], row["against"]) for row in table(folder, "arms")}
    assert {("distilled", "base"), ("distilled_patterns", "base"), ("patterns", "teacher")} <= pairs


def test_kept_students_are_read_by_stock_from_pretrained_and_score_as_they_did(trained):
    overrides, _, test = trained
    folder = go([*overrides, "name=kept", "students.seeds=[0]", "students.keep=true"]).folder
    assert {path.name for path in (folder / "students").iterdir()} == {"base-0", "patterns-0", "random_patterns-0"}
    kept = folder / "students" / "patterns-0"
    read, report = AutoModelForTokenClassification.from_pretrained(kept, output_loading_info=True)
    assert not report["missing_keys"]
    assert type(read).__name__ == "HeadlightBertForTokenClassification"
    documents = load_documents(test)
    scores = score_sentences(read, AutoTokenizer.from_pretrained(kept), [each.sentences for each in documents])
    found = values_of(scores, documents, 1)
    rows = {(row["arm"], row["metric"]): row for row in table(folder, "arms") if row["against"] is None}
    for metric in ("rouge1", "hit", "reciprocal_rank"):
        assert rows["patterns", metric]["value"] == pytest.approx(np.mean(found[metric]))


def test_that_rouge_is_missing_is_said_before_anything_is_trained(trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    monkeypatch.setattr(summaries, "_scorer", summaries._scorer.__wrapped__)
    with pytest.raises(InputError, match="needs the package rouge-score"):
        documents_of(load_config(trained[0]))


def test_files_that_say_nothing_of_students_are_refused(base, tmp_path):
    file = write_documents(tmp_path, "documents", 2, 0)
    overrides = [*base, f"patterns.path={write_patterns(tmp_path)}", f"students.train={file}", f"students.test={file}"]
    with pytest.raises(InputError, match=r"needs inject.target: student or pal; .* has target: in_place"):
        go(overrides)
