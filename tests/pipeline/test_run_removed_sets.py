"""Runs compute what the library does of removed sets, of scores alone and of rationales, and say what sharing saved."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from tiny_experiment import TEXTS, tiny_overrides
from tiny_models import save_tiny
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertConfig

from attribution import Explainer
from attribution.errors import InputError
from evaluation import METRICS, evaluate_all
from evaluation.levels import paper_counts
from pipeline.execution import make_progress
from pipeline.microbatch import inputs_of, units_of
from pipeline.plan import describe_plan
from pipeline.run import run
from pipeline.validate import load_config

OF_SETS = ["tau_loo", "faithfulness_estimate", "faithfulness_correlation", "sensitivity_n", "infidelity"]
OF_SCORES = ["gini", "entropy", "top_1_mass"]
OF_RATIONALES = ["auprc", "token_f1", "iou_f1"]


def ran(overrides):
    return run(load_config(overrides), overrides, make_progress(silent=True))


def table(folder, name):
    return pq.read_table(folder / f"{name}.parquet")


def values(folder, method, metric):
    return table(folder, "values").filter((pc.field("method") == method) & (pc.field("metric") == metric))["value"]


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overrides = tiny_overrides(save_tiny("bert", tmp_path / "tiny"), tmp_path)
    methods = ["attribution.m.method=input_x_gradient", "attribution.g.method=gradcam", "evaluation.controls=[]"]
    return [*overrides, *methods]


def marked(folder: Path) -> Path:
    """The same texts, of which the adjectives are marked in all but the first."""
    rows = []
    for number, (text, label) in enumerate(TEXTS):
        spans = [[text.index(word), text.index(word) + len(word)] for word in ("good", "bad", "great") if word in text]
        rows.append({"sentence": text, "label": label, "rationale": spans if number else None})
    path = folder / "marked.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def of_the_library(result, model, metrics, unit="token"):
    """{method: {metric: values}} of the library from a run's own scores, for what the run explained."""
    rows = table(result.folder, "examples").to_pylist()
    inputs = inputs_of(rows, max(len(row["input_ids"]) for row in rows), 0)
    place = {row["item_id"]: i for i, row in enumerate(rows)}
    scores, targets = {}, [None] * len(rows)
    for row in table(result.folder, "attributions").to_pylist():
        own = scores.setdefault(row["method"], torch.zeros(inputs.shape, dtype=torch.float64))
        own[place[row["item_id"]], : len(row["scores"])] = torch.tensor(row["scores"], dtype=torch.float64)
        ends = [row["target"], row["target_end"]]
        targets[place[row["item_id"]]] = row["target"] if row["target_end"] is None else ends
    units = units_of(rows, inputs.shape[1], {unit})
    lengths = inputs.attention_mask.sum(1) if unit == "token" else units[f"{unit}_ids"].amax(1) + 1
    return evaluate_all(
        Explainer.from_pretrained(model), scores=scores, metrics=metrics, target=torch.tensor(targets), operator="unk",
        levels=paper_counts(lengths), unit=unit, **inputs.present(), **units,
    ).values  # fmt: skip


def assert_same_values(result, wanted):
    for method, metrics in wanted.items():
        for metric, expected in metrics.items():
            kept = values(result.folder, method, metric).to_numpy()
            np.testing.assert_allclose(kept, expected.numpy(), atol=2e-4, err_msg=metric)
            assert np.isfinite(kept).any(), metric


@pytest.mark.parametrize("unit", ["token", "word"])
def test_values_of_a_run_are_those_of_the_library(base, tmp_path, unit):
    metrics = [*OF_SETS, *OF_SCORES, "aopc"]
    asked = [*base, f"evaluation.metrics=[{','.join(metrics)}]", f"evaluation.unit={unit}", "evaluation.operator=unk"]
    result = ran(asked)
    assert result.exit_code == 0
    assert_same_values(result, of_the_library(result, tmp_path / "tiny", metrics, unit))


def test_sentences_are_taken_away_as_a_whole(base, tmp_path):
    texts = [" ".join(text for text, _ in TEXTS[start : start + 4]) for start in range(3)]
    data = tmp_path / "long.tsv"
    data.write_text("sentence\tlabel\n" + "".join(f"{text}\tpositive\n" for text in texts))
    metrics = ["tau_loo", "aopc", "comprehensiveness"]
    result = ran([
        *base, f"evaluation.metrics=[{','.join(metrics)}]", "evaluation.unit=sentence", "evaluation.operator=unk",
        f"dataset.path={data}",
    ])  # fmt: skip
    assert_same_values(result, of_the_library(result, tmp_path / "tiny", metrics, "sentence"))
    examples = {row["item_id"]: row for row in table(result.folder, "examples").to_pylist()}
    for row in table(result.folder, "removals").to_pylist():
        sentences = sum(token in (".", "!") for token in examples[row["item_id"]]["tokens"])
        assert max(row["units"]) + 1 == sentences > 3
        assert len(row["groups"]) == sentences
    counts = [row["counts"] for row in table(result.folder, "curves").to_pylist() if row["curve"] == "aopc"]
    assert max(map(max, counts)) <= 4


def test_removed_sets_of_questions_are_those_of_the_library(base, tmp_path):
    context = "the film was good and the meal was awful but never dull ."
    rows = [
        {"question": question, "context": context, "answers": {"text": [word], "answer_start": [context.index(word)]}}
        for question, word in (("was it good ?", "good"), ("was the meal bad ?", "awful"))
    ]
    (tmp_path / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    metrics = ["tau_loo", "faithfulness_correlation", "aopc"]
    kept = [line for line in base if not line.startswith(("++model.label_map", "model.path", "dataset.path"))]
    result = ran([
        *kept, f"model.path={save_tiny('bert_qa', tmp_path / 'qa')}", f"dataset.path={tmp_path / 'qa.jsonl'}",
        f"evaluation.metrics=[{','.join(metrics)}]", "evaluation.operator=unk", "explain.target=span",
    ])  # fmt: skip
    assert_same_values(result, of_the_library(result, tmp_path / "qa", metrics))
    assert {len(row["intact_logit"]) for row in table(result.folder, "removals").to_pylist()} == {2}


def test_sets_serve_all_methods_and_the_saving_is_told(base, capsys):
    asked = [*base, "evaluation.metrics=[tau_loo,faithfulness_estimate,faithfulness_correlation]"]
    first = ran(asked)
    manifest = json.loads((first.folder / "manifest.json").read_text())
    removals = table(first.folder, "removals")
    copies = {
        sets: sum(map(len, removals.filter(pc.field("sets") == sets)["groups"].to_pylist()))
        for sets in ("leave_one_out", "random_subsets")
    }
    alone = 2 * (2 * copies["leave_one_out"] + copies["random_subsets"] + 3 * len(TEXTS))
    assert manifest["forwards"]["alone"] == alone
    assert 0 < manifest["forwards"]["run"] <= sum(copies.values()) + len(TEXTS)
    assert manifest["forwards"]["saved"].endswith("forwards run")
    again = ran([*asked, "attribution.r.method=random", "name=more"])
    assert json.loads((again.folder / "manifest.json").read_text())["forwards"]["run"] == 0
    assert table(again.folder, "removals").equals(removals)


def test_core_is_what_a_run_computes_unasked(base, tmp_path):
    unasked = [override for override in base if override != "evaluation=paper"]
    plain = ran([*unasked, "name=plain"])
    core = ["aopc", "comprehensiveness", "sufficiency", "faithfulness_correlation", "gini"]
    assert table(plain.folder, "values")["metric"].unique().to_pylist() == core
    told = ran([*unasked, "name=told", f"dataset.path={marked(tmp_path)}"])
    assert table(told.folder, "values")["metric"].unique().to_pylist() == [*core, "auprc"]


def test_rationales_of_the_data_are_compared_with(base, tmp_path):
    metrics = f"evaluation.metrics=[{','.join(OF_RATIONALES)}]"
    result = ran([*base, metrics, f"dataset.path={marked(tmp_path)}"])
    rows = table(result.folder, "examples").to_pylist()
    scores = {
        row["item_id"]: row["scores"]
        for row in table(result.folder, "attributions").to_pylist()
        if row["method"] == "m"
    }
    sizes = [sum(row["rationale"]) for row in rows if row["rationale"] and any(row["rationale"])]
    for metric in OF_RATIONALES:
        needs = {"rationale_length": round(sum(sizes) / len(sizes))} if metric != "auprc" else {}
        kept = values(result.folder, "m", metric).to_pylist()
        for row, value in zip(rows, kept, strict=True):
            own = torch.tensor([scores[row["item_id"]]])
            about = {"rationale": torch.tensor([row["rationale"] or [False] * own.shape[1]])}
            wanted = METRICS[metric](own, tokens=~torch.tensor([row["special_tokens"]]), **about, **needs)
            np.testing.assert_allclose(value, float(wanted))
        assert np.isnan(kept[0])
        assert np.isfinite(kept).any()


def test_rationales_that_the_data_lacks_are_an_error_where_asked_for(base):
    with pytest.raises(InputError, match="auprc needs marked tokens"):
        ran([*base, "evaluation.metrics=[auprc]"])


def test_only_metrics_of_rationales_go_where_marked(base):
    with pytest.raises(InputError, match=r"evaluation.where_marked: gini is not a metric of rationales.*auprc"):
        load_config([*base, "evaluation.where_marked=[gini]"])


def test_tokens_are_drawn_from_a_language_model(base, tmp_path):
    asked = [*base, "evaluation.operator=mlm_resample", "evaluation.metrics=[aopc,tau_loo]"]
    with pytest.raises(InputError, match=r"model.lm_head is missing; evaluation.operator=mlm_resample needs"):
        load_config(asked)
    torch.manual_seed(3)
    AutoModelForMaskedLM.from_config(BertConfig.from_pretrained(tmp_path / "tiny")).save_pretrained(tmp_path / "lm")
    result = ran([*asked, f"model.lm_head={tmp_path / 'lm'}"])
    assert result.exit_code == 0
    assert table(result.folder, "removals")["operator"].unique().to_pylist() == ["mlm_resample"]
    assert np.isfinite(values(result.folder, "m", "aopc").to_numpy()).all()
    masked = ran([*base, "evaluation.operator=mask", "evaluation.metrics=[aopc]", "name=masked"])
    assert values(result.folder, "m", "aopc") != values(masked.folder, "m", "aopc")


def test_a_plan_counts_removed_sets_once_for_all_methods(base, tmp_path):
    def counted(metrics):
        plan = describe_plan(load_config([*base, "heads=all", metrics]))
        (line,) = [line for line in plan.splitlines() if "perturbed inputs" in line]
        return int(line.split("at most ")[1].split(",")[0])

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tiny")
    tokens = sum(len(tokenizer.tokenize(text)) for text, _ in TEXTS)
    assert counted("evaluation.metrics=[tau_loo]") == tokens
    assert counted("evaluation.metrics=[faithfulness_correlation,infidelity]") == 100 * len(TEXTS)
    assert counted("evaluation.metrics=[aopc,tau_loo]") == 2 * 9 * len(TEXTS) + tokens
