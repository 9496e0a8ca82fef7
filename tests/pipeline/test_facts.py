"""What methods know of an example goes from the explainer to the tables and the report, and old tables still open."""

from __future__ import annotations

import json
import shutil

import pyarrow.parquet as pq
import pytest
import torch
from tiny_experiment import tiny_overrides
from tiny_models import save_tiny

from attribution import Explainer, InputError
from attribution.asking import Scored
from pipeline.diff import diff_runs
from pipeline.execution import make_progress
from pipeline.plan import describe_plan
from pipeline.report import build_report
from pipeline.run import run
from pipeline.runs import Run
from pipeline.schemas import FACTS
from pipeline.stages.attribute import attributions
from pipeline.validate import load_config

METHODS = [
    "attribution.lig.n_steps=4",
    "attribution.lig.tolerance=null",
    "attribution.words.method=KernelShap",
    "attribution.words.unit=word",
    "attribution.words.n_samples=20",
    "attribution.sentences.method=occ",
    "attribution.sentences.unit=sentence",
    "attribution.plain.method=gradcam",
    "evaluation.controls=[]",
    "evaluation.metrics=[aopc]",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny("bert", tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    where = tmp_path_factory.mktemp("facts")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(where)
        overrides = [*tiny_overrides(model, where), *METHODS]
        result = run(load_config(overrides), overrides, make_progress(silent=True))
        assert result.exit_code == 0
        yield result.folder.resolve()


def rows_of(folder, method):
    return [row for row in Run(folder).table("attributions").to_pylist() if row["method"] == method]


def test_aliases_are_ids_in_what_is_recorded(folder):
    methods = json.loads((folder / "manifest.json").read_text())["methods"]
    assert {label: entry["method"] for label, entry in methods.items()} == {
        "lig": "integrated_gradients",
        "words": "kernel_shap",
        "sentences": "occlusion",
        "plain": "gradcam",
    }


def test_facts_have_columns_and_what_is_unknown_is_null(folder):
    for row in rows_of(folder, "lig"):
        change = row["value"] - row["baseline_value"]
        assert sum(row["scores"]) - change == pytest.approx(row["completeness_error"], abs=1e-5)
        assert (row["forwards"], row["backwards"]) == (5, 4)
        assert row["facts"] == [{"name": "steps", "value": 4.0}]
    assert all(row["backwards"] is None and row["forwards"] <= 22 for row in rows_of(folder, "words"))
    assert all(row[name] is None for row in rows_of(folder, "plain") for name in (*FACTS, "facts"))


def test_the_plan_tells_what_methods_ask_for(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = describe_plan(load_config([*tiny_overrides(model, tmp_path), *METHODS]))
    assert "words: up to 2 + n_samples forwards and 0 backwards more for a text (n_samples=20)" in plan
    assert "plain:" not in plan


def test_units_are_those_that_explain_takes(folder, model):
    explainer = Explainer.from_pretrained(model)
    texts = {row["item_id"]: row["text"] for row in Run(folder).table("examples").to_pylist()}
    for label, given in (
        ("words", {"method": "kernel_shap", "unit": "word", "n_samples": 20}),
        ("sentences", {"method": "occlusion", "unit": "sentence"}),
    ):
        rows = rows_of(folder, label)
        found = explainer.explain([texts[row["item_id"]] for row in rows], **given)
        for row, explanation in zip(rows, found, strict=True):
            assert row["scores"] == pytest.approx(explanation.scores, abs=1e-5)


def test_the_report_shows_completeness_where_there_is_one(folder):
    page = build_report(folder, texts="none", examples=3).read_text()
    section = page[page.index('id="completeness"') :].split("</section>")[0]
    assert ">lig<" in section
    assert ">words<" in section
    assert ">plain<" not in section
    assert ">sentences<" not in section


def test_a_run_of_the_first_schema_opens(folder, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(folder, old)
    table = pq.read_table(old / "attributions.parquet").drop_columns([*FACTS, "facts", "problem"])
    pq.write_table(table, old / "attributions.parquet")
    manifest = json.loads((old / "manifest.json").read_text())
    (old / "manifest.json").write_text(json.dumps(manifest | {"schema_version": "1.0.0"}))
    read = Run(old).table("attributions")
    assert read.schema.names == Run(folder).table("attributions").schema.names
    assert read["value"].null_count == read.num_rows
    assert read.drop_columns([*FACTS, "facts", "problem"]).equals(table)
    assert Run(old).table("attributions", ["method", "value"]).schema.names == ["method", "value"]
    assert 'id="completeness"' not in build_report(old, texts="none", examples=3).read_text()
    (changed,) = [change for change in diff_runs(folder, old).tables if change.table == "attributions"]
    assert set(changed.methods) == {"lig", "words", "sentences"}


def test_facts_of_any_name_are_kept():
    examples = [{"item_id": "a", "input_ids": [1, 2]}, {"item_id": "b", "input_ids": [3]}]
    facts = {"value": torch.tensor([0.5, 1.5]), "recovery": torch.tensor([0.25, 0.75])}
    table = attributions(examples, (0, 1), Scored(torch.tensor([[1.0, 2.0], [3.0, 0.0]]), facts), [None, None])
    assert table["value"].to_pylist() == [0.5, 1.5]
    assert table["facts"].to_pylist() == [[{"name": "recovery", "value": 0.25}], [{"name": "recovery", "value": 0.75}]]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"method": "lgi"}, "attribution.m.method=lgi is not a method. Did you mean lig?"),
        ({"method": "svs", "unit": "phrase"}, "attribution.m.unit=phrase is not a choice. Choose one of token, word"),
        ({"method": "lime", "operator": "drop"}, "attribution.m.operator=drop is not a choice."),
        ({"method": "lig", "baseline": "noise"}, "attribution.m.baseline=noise is not a choice."),
        ({"method": "saliency", "norm": 2}, "attribution.m.norm=2 is not a choice."),
        ({"method": "lig", "n_step": 2}, "attribution.m.n_step is not a parameter of integrated_gradients."),
    ],
)
def test_wrong_parameters_are_named_before_anything_runs(model, tmp_path, entry, says):
    given = [f"attribution.m.{key}={value}" for key, value in entry.items()]
    with pytest.raises(InputError, match=says):
        load_config([*tiny_overrides(model, tmp_path), *given, "evaluation.controls=[]"])


def test_an_operator_the_model_has_not_is_named_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = save_tiny("bert_qa", tmp_path / "qa")
    data = tmp_path / "qa.jsonl"
    answers = {"text": ["the film"], "answer_start": [0]}
    data.write_text(
        json.dumps({"question": "what was good ?", "context": "the film was good .", "answers": answers}) + "\n"
    )
    overrides = [
        "model=local", f"model.path={model}", "dataset=local", f"dataset.path={data}", "heads=all",
        "attribution=none", "tracking=none", "attribution.m.method=occ", "attribution.m.operator=delete",
        "evaluation=qa", "evaluation.controls=[]", "explain.target=span",
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"attribution\.m\.operator=delete cannot be used: deleting tokens would move"):
        run(load_config(overrides), overrides, make_progress(silent=True))
