"""Decoded layers in whole runs: keys, head, report, and the paper's experiment on stand-ins."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
import torch
from tiny_experiment import TEXTS, tiny_overrides
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertConfig

from attribution import Explainer, InputError
from attribution.decoding import HeadRecipe
from pipeline.cli import main
from pipeline.execution import make_progress
from pipeline.models import lm_head
from pipeline.report.decoded import LOW
from pipeline.run import run
from pipeline.validate import load_config

MAPS = [
    "+attribution.decoded={method: decoded_layer, layer: 2, saliency: gradcam_signed}",
    "+attribution.raw={method: decoded_layer, layer: 2, saliency: gradcam_signed, aggregate: raw}",
    "+attribution.random={method: random}",
]


@pytest.fixture(scope="module")
def pretrained(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(3)
    AutoModelForMaskedLM.from_config(BertConfig.from_pretrained(model)).save_pretrained(folder)
    return folder


def overrides(model, folder, *more):
    return [*tiny_overrides(model, folder), "heads=all", f"paths.root={folder / 'outputs'}", *MAPS, *more]


@pytest.fixture(scope="module")
def done(model, pretrained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    given = overrides(model, folder, f"model.lm_head={pretrained}")
    return run(load_config(given), given, make_progress(silent=True)).folder


def test_scores_are_those_of_the_explainer_with_that_head(model, pretrained, done):
    explainer = Explainer.from_pretrained(model, lm_head=pretrained, device="cpu")
    encoded = AutoTokenizer.from_pretrained(model)(TEXTS[1][0], return_tensors="pt")
    wanted = explainer.scores(
        encoded["input_ids"], method="decoded_layer", layer=2, saliency="gradcam_signed",
        token_type_ids=encoded["token_type_ids"],
    )[0]  # fmt: skip
    examples = {row["text"]: row["item_id"] for row in pq.read_table(done / "examples.parquet").to_pylist()}
    (row,) = [
        row
        for row in pq.read_table(done / "attributions.parquet").to_pylist()
        if row["method"] == "decoded" and row["item_id"] == examples[TEXTS[1][0]]
    ]
    assert torch.tensor(row["scores"]).sub(wanted).abs().max() < 1e-5
    assert {fact["name"] for fact in row["facts"]} == {"recovery", "salient_recovery"}


def test_the_report_names_head_and_reconstruction_warns_and_shows_both_maps(pretrained, done):
    page = (done / "report.html").read_text()
    assert "our reconstruction of Hou &amp; Castanon 2023" in page
    assert f"the language-model head of {pretrained.name}" in page
    assert "Low recovery: decoded reads few words" in page  # of a random head
    assert "raw: raw" in page
    assert "decoded: decoded" in page
    manifest = json.loads((done / "manifest.json").read_text())
    assert manifest["model"]["lm_head"] == f"the language-model head of {pretrained.name}"
    assert LOW == 0.5


def test_another_head_is_another_result_for_what_decodes_alone(model, pretrained, done, tmp_path, tmp_path_factory):
    other = tmp_path / "other"
    torch.manual_seed(4)
    AutoModelForMaskedLM.from_config(BertConfig.from_pretrained(model)).save_pretrained(other)
    root = done.parents[2]
    given = overrides(model, root, f"model.lm_head={other}", "name=second")
    again = run(load_config(given), given, make_progress(silent=True))
    manifest = json.loads((again.folder / "manifest.json").read_text())
    batches = manifest["reuse"]["load_model"]["reused"]
    assert manifest["reuse"]["attribute"]["reused"] == batches  # random: as before; maps of the layer: anew
    assert manifest["reuse"]["attribute"]["computed"] == 2 * batches


def test_without_a_head_a_run_says_how_to_get_one(model, tmp_path):
    with pytest.raises(InputError, match=r"model.lm_head is missing; attribution.decoded.method=decoded_layer needs"):
        load_config(overrides(model, tmp_path))
    with pytest.raises(InputError, match=r"model.lm_head_texts is missing; model.lm_head=train needs it"):
        load_config(overrides(model, tmp_path, "model.lm_head=train"))
    with pytest.raises(InputError, match=r"attribution.decoded.layer=top is not a layer"):
        load_config(overrides(model, tmp_path, "model.lm_head=x", "attribution.decoded.layer=top"))


def test_a_head_that_does_not_fit_stops_before_anything_is_computed(model, tmp_path):
    wide = AutoModelForMaskedLM.from_config(
        BertConfig(**{**BertConfig.from_pretrained(model).to_dict(), "vocab_size": 7})
    )
    wide.save_pretrained(tmp_path / "wide")
    given = overrides(model, tmp_path, f"model.lm_head={tmp_path / 'wide'}")
    with pytest.raises(InputError, match="does not fit: its vocab_size is 7, the explained model's is 100"):
        run(load_config(given), given, make_progress(silent=True))
    assert not (tmp_path / "outputs" / "runs").exists()


def test_explain_decodes_with_a_head_trained_on_request(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(lm_head, "RECIPE", HeadRecipe(epochs=1))
    texts = tmp_path / "texts.tsv"
    texts.write_text("sentence\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in TEXTS))
    given = ["explain", "a good film", "--model", str(model), "--method", "decoded_layer", "--root", str(tmp_path)]
    assert main(given) == 4
    assert "needs a language-model head" in capsys.readouterr().err
    assert main([*given, "--lm-head", "train", "--lm-head-texts", str(texts)]) == 0
    shown = capsys.readouterr()
    assert "decoded with: a head trained here, by masked language modelling on the frozen body" in shown.err
    assert shown.out.startswith("decoded_layer for")


def test_the_papers_experiment_on_stand_ins(model, tmp_path, monkeypatch):
    for name, home in (("HEADLIGHT_MODELS", "models"), ("HEADLIGHT_DATA", "data")):
        monkeypatch.setenv(name, str(tmp_path / home))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "minilm-sst2").symlink_to(model)
    (tmp_path / "data" / "sst2").mkdir(parents=True)
    rows = "sentence\tlabel\n" + "".join(f"{text}\t{int(label == 'positive')}\n" for text, label in TEXTS)
    for name in ("dev", "train_sentences"):
        (tmp_path / "data" / "sst2" / f"{name}.tsv").write_text(rows)
    (tmp_path / "data" / "sst2" / "test.tsv").write_text("sentence\n" + "".join(f"not {text}\n" for text, _ in TEXTS))
    given = ["experiment=paper/decoded_layer", "tracking=none", f"paths.root={tmp_path / 'outputs'}"]
    folder = run(load_config(given), given, make_progress(silent=True)).folder
    metrics = pq.read_table(folder / "metrics.parquet").to_pylist()
    labels = {row["method"] for row in metrics}
    assert {"decoded", "decoded_raw", "decoded_restricted", "input_x_gradient", "random"} <= labels
    assert {row["metric"] for row in metrics} == {"aopc", "comprehensiveness", "sufficiency"}
    assert "a head trained here" in json.loads((folder / "manifest.json").read_text())["model"]["lm_head"]
    assert len(list((tmp_path / "outputs" / "models").glob("lm_head-*"))) == 1
