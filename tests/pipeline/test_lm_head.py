"""Language-model heads that are trained once and kept."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_models import WORDS, save_tiny
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

from attribution.decoding import HeadRecipe
from pipeline.keys import digest
from pipeline.models import lm_head
from pipeline.models.lm_head import trained_language_model

TEXTS = [f"a {word} film" for word in WORDS]
QUICK = HeadRecipe(epochs=1, batch_size=8)


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    return save_tiny("bert", tmp_path_factory.mktemp("body"))


@pytest.fixture(scope="module")
def made(body, tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    return trained_language_model(body, TEXTS, models, QUICK, progress=False)


def test_the_folder_is_a_language_model_on_the_body(body, made):
    model = AutoModelForMaskedLM.from_pretrained(made)
    explained = AutoModelForSequenceClassification.from_pretrained(body)
    for name, weights in model.base_model.named_parameters():
        assert torch.equal(weights, explained.base_model.get_parameter(name))


def test_the_record_tells_texts_and_recipe(made):
    record = json.loads((made / "lm_head.json").read_text())
    assert record["texts"] == digest(TEXTS)
    assert record["recipe"]["epochs"] == 1
    assert record["quality"]["trained_on"] + record["quality"]["texts"] == len(TEXTS)


def test_it_is_trained_once_for_the_same_body_texts_and_recipe(body, made, monkeypatch):
    def again(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(lm_head, "train_language_model", again)
    assert trained_language_model(body, TEXTS, made.parent, QUICK, progress=False) == made
    for texts, recipe in ((TEXTS[1:], QUICK), (TEXTS, HeadRecipe(epochs=1, batch_size=8, seed=1))):
        with pytest.raises(AssertionError, match="trained again"):
            trained_language_model(body, texts, made.parent, recipe, progress=False)
    assert [path.name for path in made.parent.iterdir()] == [made.name]


def test_another_body_gets_another_head(made, tmp_path):
    other = save_tiny("bert", tmp_path / "other", labels=("no", "yes"))
    assert trained_language_model(other, TEXTS, made.parent, QUICK, progress=False) != made
