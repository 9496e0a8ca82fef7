"""Runs compare with a model trained on shuffled labels, and with what changes near a text: the library's values."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from tiny_experiment import tiny_overrides
from tiny_models import save_tiny
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from attribution import Explainer
from attribution.errors import InputError
from evaluation import METRICS
from evaluation.neighbourhood import neighbourhood
from evaluation.randomised import shuffled_label_scores
from pipeline.execution import make_progress
from pipeline.microbatch import inputs_of
from pipeline.run import run
from pipeline.validate import load_config

STABILITIES = [
    *("relative_input_stability", "relative_output_stability", "relative_representation_stability"),
    "local_lipschitz",
]


def ran(overrides):
    return run(load_config(overrides), overrides, make_progress(silent=True)).folder


def other_model(folder, to, seed, **changes):
    """The same kind of model with other weights: what it was trained on does not matter here."""
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(folder, ignore_mismatched_sizes=True, **changes)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    model.save_pretrained(to)
    AutoTokenizer.from_pretrained(folder).save_pretrained(to)
    return to


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overrides = tiny_overrides(save_tiny("bert", tmp_path / "tiny"), tmp_path)
    methods = ["attribution.m.method=input_x_gradient", "attribution.o.method=occlusion", "heads=all"]
    return [*overrides, *methods, "evaluation.controls=[]", "evaluation.first_examples=3"]


def test_values_are_the_librarys(base, tmp_path):
    shuffled = other_model(tmp_path / "tiny", tmp_path / "shuffled", 1)
    metrics = f"evaluation.metrics=[label_randomisation,{','.join(STABILITIES)}]"
    folder = ran([*base, metrics, f"model.shuffled={shuffled}"])
    values = pq.read_table(folder / "values.parquet")
    explained = pq.read_table(folder / "attributions.parquet").filter(pc.field("method") == "m").to_pylist()
    explainer, other = (Explainer.from_pretrained(tmp_path / name) for name in ("tiny", "shuffled"))
    rows = pq.read_table(folder / "examples.parquet").to_pylist()[:3]
    for row, target in zip(rows, [torch.tensor([own["target"]]) for own in explained[:3]], strict=True):
        inputs = inputs_of([row], len(row["input_ids"]), 0)
        known = {"scores": explainer.scores(**inputs.present(), method="input_x_gradient", target=target)}
        known["tokens"] = ~torch.tensor([row["special_tokens"]])
        known["shuffled"] = shuffled_label_scores(explainer, inputs, "input_x_gradient", target=target, other=other)
        known |= neighbourhood(explainer, inputs, "input_x_gradient", target=target).given()
        for metric in ["label_randomisation", *STABILITIES]:
            own = values.filter((pc.field("metric") == metric) & (pc.field("method") == "m"))
            kept = dict(zip(own["item_id"].to_pylist(), own["value"].to_pylist(), strict=True))
            assert len(kept) == 3
            wanted = METRICS[metric](**{need: known[need] for need in METRICS[metric].needs}).item()
            np.testing.assert_allclose(kept[row["item_id"]], wanted, rtol=2e-2, atol=1e-3, err_msg=metric)
    methods = {metric: set(values.filter(pc.field("metric") == metric)["method"].to_pylist()) for metric in METRICS}
    assert methods["label_randomisation"] == {"m", "o"}
    assert methods["relative_input_stability"] == {"m"}  # occlusion runs copies of its own


def test_another_model_is_another_result(base, tmp_path):
    first, second = (other_model(tmp_path / "tiny", tmp_path / f"shuffled{seed}", seed) for seed in (1, 2))
    metric = "evaluation.metrics=[label_randomisation]"
    told = [ran([*base, metric, f"model.shuffled={folder}", f"name=n{n}"]) for n, folder in enumerate((first, second))]
    reuse = [json.loads((folder / "manifest.json").read_text())["reuse"] for folder in told]
    assert reuse[1]["attribute"]["computed"] == 0
    assert reuse[1]["explain_again"]["reused"] == 0
    values = [pq.read_table(folder / "values.parquet")["value"].to_pylist() for folder in told]
    assert values[0] != values[1]


def test_a_model_that_is_not_the_same_is_refused_and_so_is_none(base, tmp_path):
    with pytest.raises(InputError, match=r"model.shuffled is missing; evaluation.metrics: label_randomisation"):
        load_config([*base, "evaluation.metrics=[label_randomisation]"])
    more = other_model(tmp_path / "tiny", tmp_path / "more", 1, num_labels=3)
    with pytest.raises(InputError, match="num_labels=3, but the model explained has num_labels=2"):
        ran([*base, "evaluation.metrics=[label_randomisation]", f"model.shuffled={more}"])
