"""The layer to decode, chosen in a run on texts that it does not explain."""

from __future__ import annotations

import json
import re

import pyarrow.parquet as pq
import pytest
import torch
from tiny_experiment import TEXTS, tiny_overrides
from tiny_models import WORDS
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertConfig

from attribution import Explainer, InputError, Inputs
from attribution.decoding.coherence import layer_coherence, with_body_of
from evaluation import layer_choice
from evaluation.layer_choice import choose_layer
from pipeline.execution import make_progress
from pipeline.layer_texts import layer_texts
from pipeline.models import resolve
from pipeline.plan import describe_plan
from pipeline.prepare import prepare
from pipeline.report.html import number
from pipeline.run import run
from pipeline.store import Store
from pipeline.validate import load_config

METHODS = [
    "+attribution.decoded={method: decoded_layer, layer: auto}",
    "+attribution.raw={method: decoded_layer, layer: auto, aggregate: raw}",
    "+attribution.random={method: random}",
    "evaluation.metrics=[aopc]",
]
OTHERS = [f"the {word} film was {other} ." for word, other in zip(WORDS[3:15], WORDS[8:20], strict=True)]


@pytest.fixture(scope="module")
def pretrained(model, tmp_path_factory):
    """A checkpoint with another body."""
    folder = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(3)
    AutoModelForMaskedLM.from_config(BertConfig.from_pretrained(model)).save_pretrained(folder)
    return folder


def overrides(model, folder, *more):
    return [*tiny_overrides(model, folder), "heads=all", f"paths.root={folder / 'outputs'}", *METHODS, *more]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Some of them are explained too, in another spelling."""
    path = tmp_path_factory.mktemp("texts") / "others.tsv"
    path.write_text("".join(f"{text}\n" for text in ("sentence", *OTHERS, TEXTS[0][0].upper(), OTHERS[0])))
    return path


@pytest.fixture(scope="module")
def given(model, pretrained, texts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    asked = (f"model.lm_head={pretrained}", f"decoding.texts={texts}", "decoding.choose=coherent")
    return overrides(model, folder, *asked)


@pytest.fixture(scope="module")
def done(given):
    return run(load_config(given), given, make_progress(silent=True)).folder


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_text())


@pytest.fixture(scope="module")
def by_hand(model, pretrained):
    """The explainer, and the unlabelled texts without those that are explained."""
    explainer = Explainer.from_pretrained(model, lm_head=pretrained, device="cpu")
    tokenizer = AutoTokenizer.from_pretrained(model)
    encoded = tokenizer(OTHERS, padding=True, return_tensors="pt", return_special_tokens_mask=True)
    return explainer, [Inputs.from_mapping(encoded)]


def test_the_table_is_the_coherence_of_both_bodies(done, pretrained, by_hand):
    explainer, batches = by_hand
    found = {(r["body"], r["metric"], r["layer"]): r for r in pq.read_table(done / "layers.parquet").to_pylist()}
    for body, each in (("explained", explainer), ("pretrained", with_body_of(explainer, pretrained))):
        wanted = layer_coherence(each, batches)
        for row in wanted.rows():
            measured = found.pop((body, row["metric"], row["layer"]))
            assert measured["value"] == pytest.approx(row["value"], abs=1e-6)
            assert measured["n"] == wanted.positions
    assert not found


def test_the_manifest_tells_layer_texts_and_methods(done, by_hand, texts):
    explainer, batches = by_hand
    manifest = manifest_of(done)
    layer = choose_layer(explainer, batches, layer_coherence(explainer, batches), mode="coherent")
    chosen = manifest["layer_choice"]
    assert {"layer": layer, "choose": "coherent", "methods": ["decoded", "raw"]}.items() <= chosen.items()
    assert {"texts": len(OTHERS), "source": texts.name, "left_out": 1}.items() <= chosen.items()
    for label in ("decoded", "raw"):
        assert manifest["methods"][label]["layer"] == layer
        assert manifest["methods"][label]["params"]["layer"] == "auto"
    assert "layer" not in manifest["methods"]["random"]


def test_the_report_marks_the_layer_and_shows_both_bodies(done):
    page = (done / "report.html").read_text()
    layer = manifest_of(done)["layer_choice"]["layer"]
    assert f"<b>Layer {layer}</b> was chosen for decoded, raw" in page
    assert page.count('class="chosen"') == 1
    assert "a word of the text, before fine-tuning" in page
    assert f"<td>{layer}, chosen</td>" in page


def test_scores_are_those_of_that_layer_and_a_choice_is_made_once(done, given):
    layer = manifest_of(done)["layer_choice"]["layer"]
    methods = [f"attribution.{label}.layer={layer}" for label in ("decoded", "raw")]
    numbered = manifest_of(run(load_config([*given, *methods, "name=b"]), [], make_progress(silent=True)).folder)
    assert "layer_choice" not in numbered
    assert numbered["reuse"]["attribute"]["computed"] == 0
    more = [*given, "name=c", "attribution.decoded.tau=3", "decoding.choose=most_coherent"]
    again = manifest_of(run(load_config(more), more, make_progress(silent=True)).folder)
    assert again["reuse"]["measure_coherence"]["computed"] == 0
    assert again["reuse"]["attribute"]["computed"] > 0


def test_the_most_faithful_layer_is_chosen(model, pretrained, texts, by_hand, tmp_path, monkeypatch):
    monkeypatch.setattr(layer_choice, "READABLE", 0.2)
    asked = overrides(model, tmp_path, f"model.lm_head={pretrained}", f"decoding.texts={texts}", "decoding.n_texts=8")
    folder = run(load_config(asked), asked, make_progress(silent=True)).folder
    rows = pq.read_table(folder / "layers.parquet").to_pylist()
    means = {row["layer"]: row["value"] for row in rows if row["metric"] == "comprehensiveness"}
    assert len(means) > 1
    said = ", ".join(f"{layer}: {number(value)}" for layer, value in sorted(means.items()))
    assert f"Mean comprehensiveness of the maps by layer: {said}." in (folder / "report.html").read_text()
    manifest = manifest_of(folder)
    chosen = manifest["layer_choice"]["layer"]
    assert chosen == max(means, key=means.get)
    assert manifest["layer_choice"]["texts"] == 8
    explainer, (inputs,) = by_hand
    known = {tuple(row[row > 0].tolist()): i for i, row in enumerate(inputs.input_ids)}
    store = Store(tmp_path / "outputs" / "store")
    examples = store.get(manifest["layer_choice"]["examples"], "examples").to_pylist()
    drawn = inputs.rows([known[tuple(row["input_ids"])] for row in examples])
    wanted = layer_choice.comprehensiveness_of_layers(explainer, [drawn], sorted(means), {})
    torch.testing.assert_close(torch.tensor([means[layer] for layer in sorted(means)]), wanted, atol=1e-5, rtol=0,
                               check_dtype=False)  # fmt: skip
    assert all(row["label"] is None for row in examples)


def test_a_model_that_decodes_to_nothing_is_said_in_one_line(given, monkeypatch):
    monkeypatch.setattr(layer_choice, "READABLE", 1.1)
    asked = [*given, "name=d", "decoding.choose=faithful"]
    with pytest.raises(InputError, match=r"^conf error: attribution.decoded.layer=auto: no layer decodes to [^\n]*$"):
        run(load_config(asked), asked, make_progress(silent=True))


def test_without_a_file_the_rest_of_the_data_set_is_taken(model, pretrained, tmp_path):
    asked = overrides(model, tmp_path, f"model.lm_head={pretrained}")
    config = load_config([*asked, "dataset.limit=3", "dataset.skip=1"])
    found = layer_texts(config, prepare(config), "cpu")
    assert sorted(found.prepared.examples["text"].to_pylist()) == sorted(text for text, _ in [TEXTS[0], *TEXTS[4:]])
    assert found.left_out == 3
    config = load_config(asked)
    with pytest.raises(
        InputError, match=r"decoding.texts is missing: attribution.decoded.layer=auto is chosen on texts"
    ):
        layer_texts(config, prepare(config), "cpu")
    assert (
        layer_texts(load_config([*asked, "~attribution.decoded", "~attribution.raw"]), prepare(config), "cpu") is None
    )


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("decoding.texts=nowhere.tsv", "decoding.texts=nowhere.tsv does not exist; give a file."),
        ("decoding.choose=best", "decoding.choose=best is not a choice. Choose one of faithful, coherent, most_coh"),
        ("decoding.n_texts=0", "decoding.n_texts=0 must be at least 1"),
        ("attribution.raw.layer=top", "attribution.raw.layer=top is not a layer: .* or auto"),
        ("dataset.form=agreement", "attribution.decoded.layer=auto is for texts, not dataset.form=agreement"),
        ("model.lm_head=null", "model.lm_head is missing"),
    ],
)
def test_wrong_settings_are_told_before_anything(model, tmp_path, wrong, words):
    with pytest.raises(InputError, match=words):
        load_config(overrides(model, tmp_path, "model.lm_head=x", wrong))


def test_texts_of_another_form_are_refused(model, pretrained, tmp_path):
    questions = tmp_path / "questions.tsv"
    questions.write_text("question\tcontext\twhy\ngood ?\ta good film\tx\n")
    asked = overrides(model, tmp_path, f"model.lm_head={pretrained}", f"decoding.texts={questions}")
    config = load_config(asked)
    with pytest.raises(InputError, match=r"decoding.texts=\S+ is for question_answering, but the run's data set"):
        layer_texts(config, prepare(config), "cpu")


def test_the_plan_counts_what_the_choice_takes(done, given, model, pretrained, texts, tmp_path):
    fresh = describe_plan(
        load_config(overrides(model, tmp_path, f"model.lm_head={pretrained}", f"decoding.texts={texts}"))
    )
    assert "measure_coherence: 12 results to compute in 12 tasks, 0 at hand" in fresh
    assert "known once heads are found and a layer is chosen" in fresh
    assert not (tmp_path / "outputs").exists()
    timed = describe_plan(load_config([*given, "decoding.choose=faithful", "decoding.n_texts=5"]), probe=True)
    assert re.search(r"measure_coherence [\d:]+, compare_layers [\d:]+", timed)
    after = describe_plan(load_config(given))
    assert "measure_coherence: 0 results to compute in 0 tasks" in after
    assert "attribute: 0 results to compute" in after


def test_the_plan_trains_no_head(model, texts, tmp_path, monkeypatch):
    def trained(*_, **__):
        raise AssertionError("a head is trained")

    monkeypatch.setattr(resolve, "trained_language_model", trained)
    asked = overrides(model, tmp_path, "model.lm_head=train", f"model.lm_head_texts={texts}")
    plan = describe_plan(load_config(asked))
    assert plan.startswith(
        f"model.lm_head=train: a language-model head is trained first, once, on {len(OTHERS) + 1} texts"
    )
    assert f"examples: {len(TEXTS)} of reviews, 3 methods" in plan
    with pytest.raises(AssertionError, match="a head is trained"):
        run(load_config(asked), asked, make_progress(silent=True))
