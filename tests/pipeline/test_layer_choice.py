"""The layer to decode, chosen in a run on texts that it does not explain."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
import torch
from tiny_experiment import TEXTS, tiny_overrides
from tiny_models import WORDS, save_tiny
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertConfig

from attribution import Explainer, InputError, Inputs
from attribution.decoding import HeadRecipe
from attribution.decoding.coherence import layer_coherence, with_body_of
from evaluation.layer_choice import choose_layer
from pipeline.execution import make_progress
from pipeline.models import lm_head
from pipeline.plan import describe_plan
from pipeline.run import run
from pipeline.validate import load_config

METHODS = [
    "+attribution.decoded={method: decoded_layer, layer: auto}",
    "+attribution.raw={method: decoded_layer, layer: auto, aggregate: raw}",
    "+attribution.random={method: random}",
    "evaluation.metrics=[aopc]",
]
OTHERS = [f"the {word} film was {other} ." for word, other in zip(WORDS[3:15], WORDS[8:20], strict=True)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny("bert", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def pretrained(model, tmp_path_factory):
    """A checkpoint with another body, whose head knows the words of the embeddings."""
    folder = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(3)
    language_model = AutoModelForMaskedLM.from_config(BertConfig.from_pretrained(model))
    language_model.save_pretrained(folder)
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


def test_x(done):
    print(manifest_of(done)["layer_choice"], manifest_of(done)["methods"])
    print(pq.read_table(done / "layers.parquet").to_pandas().query("metric in ('recovery@10','in_text@10')"))
