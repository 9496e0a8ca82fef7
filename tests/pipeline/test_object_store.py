"""What travels between driver and workers: small records. Models and tables never pass through Ray's object store."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import ray
from ray._private import state
from ray._private.internal_api import get_memory_info_reply
from tiny_models import save_tiny

from pipeline.config import ClusterConfig
from pipeline.execution import make_progress
from pipeline.execution.ray_cluster import connect
from pipeline.execution.task import WorkerSlot
from pipeline.run import run
from pipeline.validate import load_config
from pipeline.worker import WorkerSettings

RECORD_BYTES = 16 * 2**10  # a task of 32 examples; Ray itself would put what exceeds 100 KiB into its object store
WORDS = ("good", "bad", "great", "awful", "bright", "dull")


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, data = save_tiny("bert", tmp_path / "tiny"), tmp_path / "data.tsv"
    texts = [f"the film was {one} and not {two} ." for one in WORDS for two in WORDS]
    data.write_text("sentence\tlabel\n" + "".join(f"{text}\tpositive\n" for text in texts))
    return [
        "model=local", f"model.path={model}", "dataset=local", f"dataset.path={data}", "heads=all", "tracking=none",
        "attribution=none", "attribution.m.method=gradcam", "attribution.f.method=full_lrp", "evaluation.controls=[]",
        "++model.label_map.positive=0", "++model.label_map.negative=1", "cluster.max_batch=32",
    ]  # fmt: skip


def go(overrides):
    assert run(load_config(overrides), overrides, make_progress(silent=True)).exit_code == 0


def test_tasks_and_outcomes_are_small(base, monkeypatch):
    sizes, original = [], WorkerSlot.run

    def measured(slot, task):
        outcome = original(slot, task)
        sizes.append((task.stage, len(task.items), len(pickle.dumps(task)), len(pickle.dumps(outcome))))
        return outcome

    monkeypatch.setattr(WorkerSlot, "run", measured)
    go(base)
    assert max(items for _, items, _, _ in sizes) == 32
    assert {stage for stage, *_ in sizes} == {"load_model", "measure_memory", "attribute", "evaluate"}
    assert max(max(task, outcome) for *_, task, outcome in sizes) < RECORD_BYTES
    assert len(pickle.dumps(WorkerSettings("/some/store"))) < 1024


def stored():
    """Bytes that Ray's object store has taken since it was started."""
    return get_memory_info_reply(state.state).store_stats.cumulative_created_bytes


@pytest.mark.slow
def test_a_run_puts_no_more_than_records_into_the_object_store(base):
    model = sum(file.stat().st_size for file in Path("tiny").glob("*.safetensors"))
    with connect(ClusterConfig("ray", workers=1)):
        before = stored()
        go([*base, "cluster=ray", "cluster.workers=1"])
        assert stored() - before < RECORD_BYTES < model
        held = ray.put(bytes(model))
        assert stored() - before >= model  # so would a model be seen
        del held
