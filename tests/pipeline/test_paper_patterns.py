"""The experiment on attention patterns whole, on stand-ins: a model with a head that looks back, made-up documents."""

from __future__ import annotations

import itertools
import json

import pyarrow.parquet as pq
import pytest
from paper_runs import save_checkpoint
from tiny_experiment import TEXTS

from pipeline.execution import make_progress
from pipeline.run import run
from pipeline.validate import load_config

PATTERNS = {"match", "intra", "prev", "next"}
SMALL = [
    "cluster=local",
    "students.width=8",
    "students.epochs=1",
    "students.layers=1",
    "students.seeds=[0,1]",
    "students.projected=4",
]


def write_documents(path, count):
    sentences = [f"{text} {other}" for (text, _), (other, _) in itertools.pairwise(TEXTS)]
    rows = [
        {"sentences": sentences[place : place + 3], "references": [sentences[place]], "oracle": [1, 0, 0]}
        for place in (number % 4 for number in range(count))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def go(tmp_path_factory):
    root = tmp_path_factory.mktemp("patterns")
    save_checkpoint(root / "models" / "minilm-sst2", 2)
    for name in ("sst2", "scitldr"):
        (root / "data" / name).mkdir(parents=True)
    rows = "".join(f"{text}\t{int(label == 'positive')}\n" for text, label in TEXTS)
    (root / "data" / "sst2" / "dev.tsv").write_text("sentence\tlabel\n" + rows)
    learned = "".join(f"{text} {text}\t{int(label == 'positive')}\n" for text, label in TEXTS)
    (root / "data" / "sst2" / "train_sentences.tsv").write_text("sentence\tlabel\n" + learned)
    write_documents(root / "data" / "scitldr" / "train.jsonl", 8)
    write_documents(root / "data" / "scitldr" / "test.jsonl", 5)

    def once(*changes):
        overrides = ["experiment=paper/patterns", "tracking=none", f"paths.root={root / 'outputs'}", *SMALL, *changes]
        result = run(load_config(overrides), overrides, make_progress(silent=True))
        assert result.exit_code == 0
        return result.folder

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADLIGHT_MODELS", str(root / "models"))
        patch.setenv("HEADLIGHT_DATA", str(root / "data"))
        yield once


@pytest.fixture(scope="module")
def done(go):
    return go()


def table(folder, name):
    return pq.read_table(folder / f"{name}.parquet").to_pylist()


def test_the_head_that_looks_back_is_found(done):
    rows = [row for row in table(done, "patterns") if row["queries"] == "all"]
    assert {row["pattern"] for row in rows} == PATTERNS
    significant = {(row["pattern"], row["layer"], row["head"]) for row in rows if row["significant"]}
    assert ("prev", 0, 0) in significant
    assert not any(pattern == "intra" for pattern, *_ in significant)  # each text is one block: it holds everywhere


def test_all_studies_compare_patterns_with_their_controls(done):
    arms = {(row["study"], row["arm"], row["against"]) for row in table(done, "arms")}
    for study, controls in (
        ("in_place", ("base", "random_patterns", "random_heads")),
        ("students", ("base", "random_patterns", "first_sentences")),
        ("projected", ("base", "random_patterns", "without_patterns")),
        ("classifiers", ("base", "random_patterns", "teacher")),
    ):
        assert {(study, "patterns", control) for control in controls} <= arms
    values = {row["arm"]: row["value"] for row in table(done, "arms") if row["metric"] == "divergence"}
    assert values["base"] == 0
    assert {(row["arm"], row["seed"]) for row in table(done, "losses") if row["study"] == "students"} == {
        (arm, seed) for arm in ("base", "patterns", "random_patterns") for seed in (0, 1)
    }


def test_it_goes_on_from_what_is_there(go, done):
    reuse = json.loads((go("name=again") / "manifest.json").read_text())["reuse"]
    assert reuse["train_student"] == {"computed": 0, "reused": 16}  # 6 students, files of 2, 8 that go on from them
    assert reuse["train_classifier"] == {"computed": 0, "reused": 10}
    assert all(counts["computed"] == 0 for counts in reuse.values())
