"""Runs of every stage at once: the same bytes on workers of Ray, and nothing twice after the driver was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from test_run_shuffled import other_model
from tiny_experiment import tiny_overrides
from tiny_models import save_tiny

from pipeline.execution import make_progress
from pipeline.run import run
from pipeline.validate import load_config

pytestmark = pytest.mark.slow

METRICS = "aopc,tau_loo,max_sensitivity,relative_input_stability,mprt,random_logit,seed_stability,label_randomisation"
ORDER = ["load_model", "explain_errors", "remove_words", "attribute", "evaluate", "compare_operators", "explain_again"]
KILLED = """
import os, signal, sys
from pipeline.execution import make_progress
from pipeline.run import run
from pipeline.store import Store
from pipeline.validate import load_config

stage, after, *overrides = sys.argv[1:]
original, done = Store.put, []

def put(store, key, table, kind):
    if kind == stage and len(done) == int(after):
        os.kill(os.getpid(), signal.SIGKILL)
    done.extend([key] if kind == stage else [])
    return original(store, key, table, kind)

Store.put = put
run(load_config(overrides), overrides, make_progress(silent=True))
"""


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Overrides of a run with other operators, explanations of other models and neighbours, and errors."""
    folder = tmp_path_factory.mktemp("stages")
    overrides = tiny_overrides(save_tiny("bert", folder / "tiny"), folder)
    shuffled = other_model(folder / "tiny", folder / "shuffled", 1)
    methods = {"m": "input_x_gradient", "o": "occlusion", "r": "random"}
    return [
        *overrides, *[f"attribution.{label}.method={method}" for label, method in methods.items()], "heads=all",
        f"evaluation.metrics=[{METRICS}]", "evaluation.controls=[]", "evaluation.first_examples=5",
        "evaluation.other_operators=[delete,unk]", "errors.method=auto", "errors.draws=4", f"model.shuffled={shuffled}",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def whole(asked, tmp_path_factory):
    """The manifest of the run by one process."""
    return ran([*asked, f"paths.root={tmp_path_factory.mktemp('whole')}"])


def ran(overrides):
    folder = run(load_config(overrides), overrides, make_progress(silent=True)).folder
    return json.loads((folder / "manifest.json").read_text())


def test_every_stage_has_something_to_do(whole):
    assert [stage for stage in ORDER if whole["reuse"][stage]["computed"] < 2] == []
    assert "errors.parquet" in whole["files"]


def test_workers_of_ray_give_the_same_bytes(asked, whole, tmp_path):
    assert ran([*asked, f"paths.root={tmp_path}", "cluster=ray", "cluster.workers=2"])["files"] == whole["files"]


@pytest.mark.parametrize("stage", ["explain_errors", "remove_words", "compare_operators", "explain_again"])
def test_a_driver_that_is_killed_repeats_nothing(asked, whole, tmp_path, stage):
    overrides = [*asked, f"paths.root={tmp_path}"]
    command = [sys.executable, "-c", KILLED, stage, "1", *overrides]
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    resumed = ran(overrides)
    before = ORDER[: ORDER.index(stage)]
    assert [each for each in before if resumed["reuse"][each]["computed"]] == []
    assert resumed["reuse"][stage]["reused"] == 1
    assert resumed["reuse"][stage]["computed"] == whole["reuse"][stage]["computed"] - 1
    assert resumed["files"] == whole["files"]
