"""Randomisation and robustness of a run's first examples: the library's values, and only where they mean something."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from tiny_experiment import TEXTS, tiny_overrides
from tiny_models import save_tiny

from attribution import Explainer
from attribution.errors import InputError
from evaluation import METRICS
from evaluation.randomised import neighbour_scores, other_class_scores, randomised_scores, reseeded_scores
from pipeline.execution import make_progress
from pipeline.microbatch import inputs_of
from pipeline.plan import describe_plan
from pipeline.run import run
from pipeline.validate import load_config

FIRST = 3
OTHERS = {  # metric -> what it compares with, and how that is computed
    "mprt": ("randomised", randomised_scores),
    "efficient_mprt": ("randomised", lambda *args, **known: randomised_scores(*args, order="all", **known)),
    "random_logit": ("other_class", other_class_scores),
    "max_sensitivity": ("neighbours", neighbour_scores),
    "top_k_stability": ("neighbours", neighbour_scores),
    "seed_stability": ("reruns", reseeded_scores),
}


def ran(overrides):
    return run(load_config(overrides), overrides, make_progress(silent=True)).folder


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overrides = tiny_overrides(save_tiny("bert", tmp_path / "tiny"), tmp_path)
    methods = {"m": "input_x_gradient", "a": "raw_attention", "o": "occlusion", "r": "random"}
    named = [f"attribution.{label}.method={method}" for label, method in methods.items()]
    metrics = f"evaluation.metrics=[aopc,{','.join(OTHERS)}]"
    return [*overrides, *named, metrics, "evaluation.controls=[]", f"evaluation.first_examples={FIRST}"]


def test_values_are_the_librarys_of_the_first_examples(base, tmp_path):
    folder = ran(base)
    rows = pq.read_table(folder / "examples.parquet").to_pylist()[:FIRST]
    explained = {row["item_id"]: row for row in pq.read_table(folder / "attributions.parquet").to_pylist()
                 if row["method"] == "m"}  # fmt: skip
    explainer = Explainer.from_pretrained(tmp_path / "tiny")
    for metric, (name, again) in OTHERS.items():
        method = "random" if metric == "seed_stability" else "input_x_gradient"
        label = "r" if metric == "seed_stability" else "m"
        own = pq.read_table(folder / "values.parquet").filter(
            (pc.field("metric") == metric) & (pc.field("method") == label)
        )
        kept = dict(zip(own["item_id"].to_pylist(), own["value"].to_pylist(), strict=True))
        assert set(kept) == {row["item_id"] for row in rows}
        for row in rows:
            inputs = inputs_of([row], len(row["input_ids"]), 0)
            target = torch.tensor([explained[row["item_id"]]["target"]])
            scores = explainer.scores(**inputs.present(), method=method, target=target)
            tokens = ~torch.tensor([row["special_tokens"]])
            other = again(explainer, inputs, method, target=target)
            wanted = METRICS[metric](scores=scores, tokens=tokens, **{name: other})
            np.testing.assert_allclose(kept[row["item_id"]], wanted.item(), atol=2e-3, err_msg=metric)


def test_metrics_are_left_out_where_they_say_nothing(base):
    folder = ran(base)
    values = pq.read_table(folder / "values.parquet")
    found = {
        metric: set(values.filter(pc.field("metric") == metric)["method"].to_pylist()) for metric in [*OTHERS, "aopc"]
    }
    assert found["aopc"] == found["mprt"] == found["efficient_mprt"] == {"m", "a", "o", "r"}
    assert found["random_logit"] == {"m", "o"}  # attention and chance explain all classes alike
    assert found["max_sensitivity"] == found["top_k_stability"] == {"m", "a", "r"}  # occlusion runs copies of its own
    assert found["seed_stability"] == {"r"}
    assert len(set(values.filter(pc.field("metric") == "aopc")["item_id"].to_pylist())) == len(TEXTS)
    assert "explain_again: 0 results to compute in 0 tasks" in describe_plan(load_config(base))
    again = ran([*base, "name=again", "evaluation.metrics=[mprt]"])
    assert json.loads((again / "manifest.json").read_text())["reuse"]["explain_again"]["computed"] == 0


@pytest.mark.parametrize(
    ("override", "message"),
    [("explain.output=probability", "mprt is not for explain.output=probability; take it out of the list")],
)
def test_what_cannot_be_explained_again_is_refused(base, override, message):
    with pytest.raises(InputError, match=message):
        ran([*base, override])
