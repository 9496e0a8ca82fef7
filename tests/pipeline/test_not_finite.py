"""Runs in which some values are not finite: the examples fail alone, are named, and count nowhere."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
import torch
from tiny_experiment import tiny_overrides
from tiny_models import save_tiny, tiny_model
from transformers import AutoTokenizer, BertForSequenceClassification

from attribution.asking import Scored
from attribution.errors import InputError
from attribution.explainer import Explainer
from pipeline.execution import make_progress
from pipeline.run import run
from pipeline.validate import load_config

METHODS = ["attribution.m.method=saliency", "attribution.other.method=attcat", "evaluation.controls=[]"]


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return [*tiny_overrides(save_tiny("bert", tmp_path / "model"), tmp_path), *METHODS]


def go(overrides):
    result = run(load_config(overrides), overrides, make_progress(silent=True))
    return result, json.loads((result.folder / "manifest.json").read_text())


def table(result, name):
    return pq.read_table(result.folder / f"{name}.parquet").to_pylist()


def test_scores_that_are_not_finite_fail_one_example_of_one_method(base, monkeypatch):
    whole, _ = go([*base, "paths.root=whole"])
    original = Explainer.scored_many

    def scored_many(self, input_ids, *args, **options):
        found = original(self, input_ids, *args, **options)
        marked = (input_ids == self.tokenizer.convert_tokens_to_ids("great")).any(1)
        for key, spec in options["methods"].items():
            if spec["method"] == "saliency":
                found[key] = Scored(found[key].scores.masked_fill(marked[:, None], torch.nan), found[key].facts)
        return found

    monkeypatch.setattr(Explainer, "scored_many", scored_many)
    result, manifest = go(base)
    assert (result.exit_code, manifest["status"]) == (1, "failed")
    rows = table(result, "attributions")
    (failed,) = [row for row in rows if row["status"] != "ok"]
    assert (failed["method"], failed["status"]) == ("m", "nan")
    assert failed["problem"].startswith("saliency: scores are not finite: what the model computes is finite")
    assert [row for row in rows if row != failed] == [
        row for row in table(whole, "attributions") if (row["method"], row["item_id"]) != ("m", failed["item_id"])
    ]
    (failure,) = manifest["failures"]
    assert failure["error"].startswith(f"m: 1 examples have scores that are not finite: {failed['item_id'][:16]}: ")
    undefined = {(row["method"], row["item_id"]) for row in table(result, "values") if row["value"] != row["value"]}
    assert undefined == {("m", failed["item_id"])}
    assert {(row["method"], row["n_undefined"]) for row in table(result, "metrics")} == {("m", 1), ("other", 0)}
    page = (result.folder / "report.html").read_text()
    assert "m has no defined scores for 1 of 7 texts." in page


def save_poisoned(folder, words):
    """A model whose embeddings of some words are not finite."""
    model = BertForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids(words)] = torch.nan
    model.save_pretrained(folder)


def test_an_example_the_model_cannot_predict_is_left_out_and_named(base, tmp_path):
    save_poisoned(tmp_path / "model", ["great"])
    result, manifest = go(base)
    assert result.exit_code == 1
    (failure,) = manifest["failures"]
    assert failure["stage"] == "load_model"
    assert "not finite from bert.embeddings.word_embeddings on" in failure["error"]
    assert {row["status"] for row in table(result, "attributions")} == {"ok"}
    assert len(table(result, "attributions")) == 2 * 6


def test_a_model_that_overflows_everywhere_is_one_line(base, tmp_path):
    model = tiny_model("bert", torch.float32)
    with torch.no_grad():
        model.bert.encoder.layer[1].intermediate.dense.weight.mul_(60000)
    model.config.id2label = {0: "negative", 1: "positive"}
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(InputError) as error:
        go([*base, "model.dtype=float16", "cluster.max_batch=7"])
    assert str(error.value).startswith("conf error: in float16 the model gives values that are not finite from bert.en")
    assert str(error.value).endswith("; model.dtype=float32 may help.")


def test_a_method_in_a_precision_it_is_not_offered_in_is_refused(base):
    with pytest.raises(InputError) as error:
        load_config([*base, "model.dtype=bfloat16", "attribution.lrp.method=mask_lrp", "attribution.ok.method=alti"])
    assert str(error.value).count("\n") == 0
    assert "attribution.lrp.method=mask_lrp is not offered in bfloat16: " in str(error.value)
    assert str(error.value).endswith("Choose one of float64, float32 for model.dtype.")
