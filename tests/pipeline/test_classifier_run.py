"""Classifiers trained in runs: tested by the examples of the run, each explained, and taken up where they stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from pattern_runs import STUDENT, go, table, write_patterns
from tiny_experiment import TEXTS, tiny_overrides
from tiny_models import WORDS
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from attribution.errors import InputError
from attribution.explainer import Explainer
from evaluation import evaluate_all
from pipeline.checkpoints import StoredCheckpoint
from pipeline.estimate_patterns import EXPLAINED, PROBES, Size, _extended
from pipeline.plan import describe_plan
from pipeline.store import Store
from pipeline.validate import load_config

LEARNED = [
    (f"{word} {other} .", "positive" if index % 2 else "negative")
    for index, (word, other) in enumerate(pairwise(WORDS))
]
ARMS = ("base", "patterns", "random_patterns", "distilled", "distilled_patterns")


@pytest.fixture(scope="module")
def overrides(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    texts = folder / "learned.tsv"
    texts.write_text("sentence\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in LEARNED))
    return [
        *tiny_overrides(model, folder), "heads=all", f"paths.root={folder / 'outputs'}", "name=classifiers",
        "patterns.random_seeds=[0]", "evaluation.metrics=[comprehensiveness,sufficiency]",
        "+attribution.ixg=input_x_gradient", "patterns.explained=ixg", "evaluation.controls=[]",
        f"patterns.path={write_patterns(folder, inject=STUDENT)}", f"students.texts={texts}", "students.layers=2",
        "students.heads=2", "students.width=8", "students.epochs=2", "students.batch_size=4", "students.seeds=[0,1]",
        "students.texts_distilled=0.5", "students.learning_rate=0.01", "students.keep=true",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def done(overrides):
    return go(overrides).folder


def values(folder):
    return {(row["arm"], row["metric"]): row for row in table(folder, "arms") if row["against"] is None}


def test_every_arm_is_trained_with_every_seed_and_tested_by_the_examples(done):
    found = values(done)
    assert {arm for arm, _ in found} == {*ARMS, "teacher"}
    assert {metric for _, metric in found} == {
        "accuracy", "comprehensiveness", "sufficiency", "mflops", "milliseconds", "sparsity",
    }  # fmt: skip
    assert (found["patterns", "accuracy"]["seeds"], found["patterns", "accuracy"]["n"]) == (2, len(TEXTS))
    assert found["teacher", "comprehensiveness"]["spread"] == 0
    assert found["base", "comprehensiveness"]["spread"] > 0
    pairs = {(row["arm"], row["against"]) for row in table(done, "arms") if row["metric"] == "comprehensiveness"}
    assert {("patterns", "base"), ("patterns", "random_patterns"), ("distilled_patterns", "base")} <= pairs
    losses = [(row["arm"], row["seed"], row["epoch"], row["loss"]) for row in table(done, "losses")]
    assert len(losses) == len(ARMS) * 2 * 2
    assert len({loss for *_, loss in losses}) == len(losses)
    assert "Students trained to classify" in (done / "report.html").read_text()


def test_kept_models_are_read_by_stock_from_pretrained_and_do_what_was_measured(done):
    folders = {path.name for path in (done / "classifiers").iterdir()}
    assert folders == {f"{arm}-{seed}" for arm in ARMS for seed in (0, 1)}
    labels = [int(label == "positive") for _, label in TEXTS]
    accuracy, comprehensiveness = [], []
    for seed in (0, 1):
        folder = done / "classifiers" / f"patterns-{seed}"
        read, report = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
        assert not report["missing_keys"]
        assert type(read).__name__ == "HeadlightBertForSequenceClassification"
        given = AutoTokenizer.from_pretrained(folder)([text for text, _ in TEXTS], padding=True, return_tensors="pt")
        given = {name: given[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
        with torch.no_grad():
            predicted = read.eval()(**given).logits.argmax(1)
        accuracy.append(float((predicted == torch.tensor(labels)).float().mean()))
        own = Explainer(read, AutoTokenizer.from_pretrained(folder))
        scores = own.scores_many(**given, methods={"ixg": {"method": "input_x_gradient"}})
        found = evaluate_all(own, **given, scores=scores, metrics=["comprehensiveness"])
        comprehensiveness.append(float(found.values["ixg"]["comprehensiveness"].mean()))
    rows = values(done)
    assert rows["patterns", "accuracy"]["value"] == pytest.approx(sum(accuracy) / 2)
    assert rows["patterns", "comprehensiveness"]["value"] == pytest.approx(sum(comprehensiveness) / 2, abs=1e-5)


def test_none_is_trained_twice_and_models_are_kept_later_if_asked(overrides, done):
    without = [*(each for each in overrides if "keep" not in each), "name=again"]
    folder = go(without).folder
    assert json.loads((folder / "manifest.json").read_text())["reuse"]["train_classifier"]["computed"] == 0
    assert not (folder / "classifiers").exists()
    assert values(folder) == values(done)


def test_a_plan_counts_the_classifiers(overrides, done, tmp_path):
    fresh = [*overrides, f"paths.root={tmp_path}"]
    (line,) = [each for each in describe_plan(load_config(fresh)).splitlines() if each.startswith("train_classifier")]
    assert line == "train_classifier: 20 results to compute in 10 tasks, 0 at hand"  # with the files of each
    (line,) = [
        each for each in describe_plan(load_config(overrides)).splitlines() if each.startswith("train_classifier")
    ]
    assert line == "train_classifier: 0 results to compute in 0 tasks, 20 at hand"


def test_a_plan_times_a_few_steps_of_every_training(overrides, tmp_path):
    said = describe_plan(load_config([*overrides, f"paths.root={tmp_path}"]), probe=True)
    (line,) = [each for each in said.splitlines() if each.startswith("time: about")]
    assert "measure_patterns" in line
    assert "train_classifier" in line
    assert "not in that time: measure_costs" in said


def test_what_a_probe_took_is_extended_by_steps_and_tests():
    """Half a second to begin, 2 s for a step, 0.1 s for a test and 3 s for an explanation."""
    took = [0.5 + 2 * each.batches + 0.1 * each.tests + 3 * each.explained for each in (*PROBES[1:], EXPLAINED)]
    assert _extended(Size(10, 50), 3, *took[:3]) == pytest.approx(0.5 + 2 * 30 + 0.1 * 50)
    assert _extended(Size(10, 50, 20), 3, *took) == pytest.approx(0.5 + 2 * 30 + 0.1 * 50 + 3 * 20)


class Killed(Exception):
    """What a test stops a training with."""


def _after(writes, kill, checkpoint, data, epoch):
    """Keep an epoch and, once so many are kept, go no further."""
    StoredCheckpoint.keep(checkpoint, data, epoch)
    if epoch + 1 == writes:
        kill()


def raise_killed():
    raise Killed


ONE = ["students.texts_distilled=0", "students.seeds=[0]", "students.epochs=3", "name=one"]


def test_a_training_that_was_stopped_goes_on_behind_its_last_epoch(overrides, tmp_path, monkeypatch):
    whole = [*overrides, *ONE, f"paths.root={tmp_path / 'whole'}"]
    broken = [*overrides, *ONE, f"paths.root={tmp_path / 'broken'}", "cluster.attempts=1"]
    wanted = go(whole).folder
    with monkeypatch.context() as patch:
        patch.setattr(StoredCheckpoint, "keep", StoredCheckpoint.write, raising=False)
        patch.setattr(StoredCheckpoint, "write", lambda *args: _after(2, raise_killed, *args))
        with pytest.raises(RuntimeError, match="Killed"):
            go(broken)
    store = Store(tmp_path / "broken" / "store")
    assert [found.name.split("/")[0] for found in store.backend.list("checkpoints")] != []
    epochs = []
    with monkeypatch.context() as patch:
        patch.setattr(StoredCheckpoint, "keep", StoredCheckpoint.write, raising=False)
        patch.setattr(StoredCheckpoint, "write", lambda own, data, epoch: (epochs.append(epoch), own.keep(data, epoch)))
        found = go(broken).folder
    assert epochs.count(2) == 3  # of every arm
    assert epochs.count(0) < 3  # the ones that were stopped did not begin anew
    assert not list(store.backend.list("checkpoints"))
    same_models(wanted, found)


def same_models(wanted, found):
    for arm in ("base-0", "patterns-0", "random_patterns-0"):
        name = f"classifiers/{arm}/model.safetensors"
        assert (wanted / name).read_bytes() == (found / name).read_bytes()
    assert table(wanted, "losses") == table(found, "losses")


KILLING = """
import json, os, signal, sys
sys.path[:0] = json.loads(sys.argv[1])
from pattern_runs import go
from pipeline.checkpoints import StoredCheckpoint
write = StoredCheckpoint.write
def killing(own, data, epoch):
    write(own, data, epoch)
    if epoch == 1:
        os.kill(os.getpid(), signal.SIGKILL)
StoredCheckpoint.write = killing
go(json.loads(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_whole_epochs(overrides, tmp_path):
    wanted = go([*overrides, *ONE, f"paths.root={tmp_path / 'whole'}"]).folder
    killed = [*overrides, *ONE, f"paths.root={tmp_path / 'killed'}"]
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    ended = subprocess.run(
        [sys.executable, "-c", KILLING, json.dumps(paths), json.dumps(killed)], capture_output=True, check=False
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()[-2000:]
    assert list(Store(tmp_path / "killed" / "store").backend.list("checkpoints"))
    same_models(wanted, go(killed).folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["students.texts=null"], "students.texts is missing; students.texts_distilled needs it"),
        (["students.texts=nowhere.tsv"], "students.texts=nowhere.tsv does not exist; give a file"),
        (["students.texts_distilled=2"], "students.texts_distilled=2"),
        (["students.temperature=0"], "students.temperature=0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(overrides, changes, message):
    with pytest.raises(InputError, match=message):
        load_config([*overrides, *changes])


def test_texts_without_labels_are_refused(overrides, tmp_path):
    (tmp_path / "plain.tsv").write_text("sentence\n" + "".join(f"{text}\n" for text, _ in LEARNED))
    with pytest.raises(InputError, match=r"students\.texts has texts without a label"):
        go([*overrides, f"students.texts={tmp_path / 'plain.tsv'}"])
