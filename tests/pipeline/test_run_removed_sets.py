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


@pytest.mark.parametrize("unit", ["token", "word"])
def test_values_of_a_run_are_those_of_the_library(base, tmp_path, unit):
    asked = [*base, f"evaluation.metrics=[{','.join([*OF_SETS, *OF_SCORES, 'aopc'])}]", f"evaluation.unit={unit}"]
    result = ran([*asked, "evaluation.operator=unk"])
    assert result.exit_code == 0
    rows = table(result.folder, "examples").to_pylist()
    inputs = inputs_of(rows, max(len(row["input_ids"]) for row in rows), 0)
    scores = {name: torch.zeros(inputs.shape, dtype=torch.float64) for name in ("m", "g")}
    for row in table(result.folder, "attributions").to_pylist():
        place = [each["item_id"] for each in rows].index(row["item_id"])
        scores[row["method"]][place, : len(row["scores"])] = torch.tensor(row["scores"], dtype=torch.float64)
    units = units_of(rows, inputs.shape[1], {unit})
    lengths = units["word_ids"].amax(1) + 1 if unit == "word" else inputs.attention_mask.sum(1)
    about = {"levels": paper_counts(lengths), "operator": "unk", "unit": unit}
    found = evaluate_all(
        Explainer.from_pretrained(tmp_path / "tiny"), scores=scores, metrics=[*OF_SETS, *OF_SCORES, "aopc"],
        **about, **inputs.present(), **units,
    )  # fmt: skip
    for method in scores:
        for metric in [*OF_SETS, *OF_SCORES, "aopc"]:
            kept, wanted = values(result.folder, method, metric).to_numpy(), found.values[method][metric].numpy()
            np.testing.assert_allclose(kept, wanted, atol=2e-4, err_msg=metric)
            assert np.isfinite(kept).any()


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
