"""What a run says of the metrics that are read from curves is what the library says of the same scores."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from tiny_experiment import tiny_overrides
from tiny_models import save_tiny

from attribution import Explainer
from attribution.errors import InputError
from evaluation import CURVES, METRICS, evaluate_all
from evaluation.levels import paper_counts
from pipeline.execution import make_progress
from pipeline.microbatch import inputs_of
from pipeline.run import run
from pipeline.validate import load_config

OF_CURVES = [m.id for m in METRICS.values() if m.prepared and set(m.prepared.values()) <= set(CURVES)]
OF_CLASSES = [metric for metric in OF_CURVES if not metric.startswith("answer")]


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tiny_overrides(save_tiny("bert", tmp_path / "tiny"), tmp_path), tmp_path / "tiny"


def test_metrics_of_a_run_are_those_of_the_library(base):
    overrides, folder = base
    asked = [*overrides, "attribution.m.method=input_x_gradient", "evaluation.controls=[]"]
    asked.append(f"evaluation.metrics=[{','.join(OF_CLASSES)}]")
    result = run(load_config(asked), asked, make_progress(silent=True))
    assert result.exit_code == 0
    tables = {name: pq.read_table(result.folder / f"{name}.parquet") for name in ("examples", "attributions", "values")}
    rows, scores = tables["examples"].to_pylist(), tables["attributions"]["scores"].to_pylist()
    inputs = inputs_of(rows, max(map(len, scores)), 0)
    dense = torch.zeros(inputs.shape, dtype=torch.float64)
    for i, row in enumerate(scores):
        dense[i, : len(row)] = torch.tensor(row)
    explainer = Explainer.from_pretrained(folder)
    levels = paper_counts(inputs.attention_mask.sum(1))
    found = evaluate_all(explainer, scores={"m": dense}, metrics=OF_CLASSES, levels=levels, **inputs.present())
    for metric in OF_CLASSES:
        kept = tables["values"].filter(pc.field("metric") == metric)["value"].to_numpy()
        np.testing.assert_allclose(kept, found.values["m"][metric].numpy(), atol=2e-6, err_msg=metric)


def test_a_metric_that_runs_cannot_compute_is_refused(base):
    overrides, _ = base
    with pytest.raises(InputError, match=r"dtype_stability is not among those that runs compute: .*delta_auc"):
        load_config([*overrides, "attribution.m.method=gradcam", "evaluation.metrics=[dtype_stability]"])
