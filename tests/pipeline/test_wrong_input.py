"""Wrong input, through the command line: exit code 4, one line a problem that says what to do, nothing written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest
import torch
from tiny_models import WORDS, save_tiny, tiny_model

from attribution import Explainer, Inputs
from attribution.heads import HeadScores
from pipeline.cli import main

TEXTS = ["the film was good .", "the meal was awful and bad .", "a very bright book .", "slow , dull and bad ."] * 3
LABELS = ["positive", "negative"] * 6
QUESTION = {
    "question": "what was bad ?",
    "context": "the meal was bad .",
    "answers": {"text": ["meal"], "answer_start": [4]},
}
TREE = {"text": "a good film", "tokens": ["a", "good", "film"], "head": [3, 3, 0], "deprel": ["det", "amod", "root"]}


@dataclass(frozen=True)
class Case:
    """What is asked for beside the working base, and what each line of the answer must hold."""

    overrides: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def case(*overrides: str, says: tuple[str, ...], too: tuple[tuple[str, ...], ...] = ()) -> Case:
    return Case(overrides, (says, *too))


MASK = "attribution.m.method=mask_lrp"
CLASSES = "0=negative, 1=positive"
QA = ("dataset.path=questions.jsonl", "dataset.columns.text=null", "dataset.columns.label=null")

# The paths are of files that `folder` below writes.
BEFORE_ANY_WORK = {
    "unknown method": case(
        "attribution.m.method=mask_lpr",
        says=("attribution.m.method=mask_lpr is not a method", "Did you mean mask_lrp?", "`headlight methods`"),
    ),
    "misspelled key": case("datset.limit=3", says=("datset.limit is not a configuration key", "dataset.limit?")),
    "misspelled option": case("model=lokal", says=("model=lokal is not an option", "Did you mean local?")),
    "unknown parameter": case(
        "attribution.m.n_steps=3", says=("attribution.m.n_steps is not a parameter of gradcam", "It has none.")
    ),
    "unknown metric": case(
        "evaluation.metrics=[aopk]", says=("evaluation.metrics: aopk is not a metric", "Did you mean aopc?")
    ),
    "unknown operator": case(
        "evaluation.operator=blank",
        says=("evaluation.operator=blank is not a choice", "mask, pad, unk, delete"),
    ),
    "missing file": case(
        "dataset.path=nowhere.tsv", says=("dataset.path=nowhere.tsv does not exist", "give a file")
    ),
    "missing treebank": case(
        "heads=treebank", "heads.select=nowhere.conllu", says=("heads.select=nowhere.conllu does not exist",)
    ),
    "missing model": case("model.path=nowhere", says=("model.path=nowhere does not exist", "give a folder")),
    "several at once": case(
        "attribution.m.method=gradcamm", "dataset.limit=0", "dataset.path=nowhere.tsv", "sed=1",
        says=("sed is not a configuration key", "Did you mean seed?"),
        too=(
            ("dataset.limit=0 must be at least 1",),
            ("dataset.path=nowhere.tsv does not exist",),
            ("attribution.m.method=gradcamm is not a method", "Did you mean gradcam?"),
        ),
    ),
    "server that does not answer": case(
        "tracking=server", "tracking.uri=http://127.0.0.1:9",
        says=("tracking.uri=http://127.0.0.1:9 is not reachable", "Start it", "tracking=sqlite or tracking=none"),
    ),
    "record that is no database": case(
        "tracking.uri=sqlite:///reviews.tsv",
        says=("tracking.uri=sqlite:///", "reviews.tsv is a file, but no SQLite database"),
    ),
    "record in a file's place": case(
        "paths.root=reviews.tsv/outputs", says=("tracking.uri=sqlite:///", "reviews.tsv takes no files")
    ),
    "cluster too small": case(
        "cluster=ray", "cluster.workers=5000",
        says=("cluster.workers=5000 with 1 CPU each do not fit", "lower cluster.workers"),
    ),
    "worker too large": case(
        "cluster=ray", "cluster.cpus_per_worker=5000",
        says=("with 5000 CPU each do not fit", "cluster.cpus_per_worker"),
    ),
    "cluster that does not answer": case(
        "cluster=ray", "cluster.address=127.0.0.1:9", says=("cluster.address=127.0.0.1:9 does not answer", "start Ray")
    ),
}  # fmt: skip
IN_THE_DATA = {
    "wrong column": case(
        "dataset.columns.text=sentense",
        says=("dataset.columns.text=sentense is not a column", "sentence, label", "Did you mean sentence?"),
    ),
    "header alone": case("dataset.path=header.tsv", says=("dataset.path=header.tsv has no rows",)),
    "empty file": case("dataset.path=empty.tsv", says=("dataset.path=empty.tsv has no rows",)),
    "blank texts": case(
        "dataset.path=blank.tsv",
        says=("dataset.path=blank.tsv: no examples are left", "2 of 2 examples left out: empty text"),
    ),
    "label outside the classes": case(
        "dataset.path=mixed.tsv",
        says=("label mixed of the data set is none of the model's classes", CLASSES, "model.label_map.mixed="),
    ),
    "number outside the classes": case(
        "dataset.path=numbers.tsv", says=("label 7 of the data set", CLASSES, "model.label_map.7=")
    ),
    "class that is not there": case(
        "model.label_map.positive=5", says=("model.label_map.positive=5 is not a class of the model", CLASSES)
    ),
    "not UTF-8": case("dataset.path=latin.tsv", says=("dataset.path=latin.tsv is not UTF-8: byte 0xe9", "iconv")),
    "not parquet": case("dataset.path=noise.parquet", says=("dataset.path=noise.parquet is not a readable parquet",)),
    "not JSON": case("dataset.path=broken.jsonl", says=("dataset.path=broken.jsonl: line 2 is not JSON",)),
    "ragged rows": case("dataset.path=ragged.tsv", says=("dataset.path=ragged.tsv: row 2 has 3 cells",)),
    "unknown kind of file": case("dataset.path=reviews.doc", says=("dataset.path=reviews.doc must end in", ".tsv")),
    "kept label that is not there": case(
        "dataset.keep_labels=[mixed]", says=("dataset.keep_labels=['mixed']", "negative, positive")
    ),
    "nothing long enough": case(
        "dataset.min_tokens=60", says=("dataset.path=reviews.tsv: no examples are left", "dataset.min_tokens=60")
    ),
}
IN_THE_MODEL = {
    "pickle alone": case(
        "model.path=pickled",
        says=("model.path=pickled holds weights only as pytorch_model.bin", "headlight convert pickled"),
    ),
    "no tokenizer": case("model.path=mute", says=("model.path=mute has no tokenizer", "tokenizer.save_pretrained")),
    "no model": case("model.path=hollow", says=("model.path=hollow has no model.safetensors", "save_pretrained")),
    "too long": case("model.max_length=1000", says=("model.max_length=1000 must be from 3 to 64",)),
}
IN_BOTH = {
    "questions for a classifier": case(
        *QA, says=("dataset questions is for question_answering, but model tiny", "does classification")
    ),
    "labels for a question answerer": case(
        "model.path=spans", says=("is for classification, but model spans", "does question_answering")
    ),
    "mask of another shape": case(
        MASK, "attribution.m.head_mask=[[1,0],[0,1]]",
        says=("attribution.m.head_mask has shape [2, 2]", "model tiny needs [3, 4] (layers, heads)"),
    ),
    "heads of another model": case(
        MASK, "attribution.m.head_mask=both", "heads=run", "heads.run=small.parquet",
        says=("heads.run=small.parquet has heads of a model with [2, 2]", "model tiny has [3, 4]", "heads=grammar"),
    ),
    "heads that were not looked for": case(
        MASK, "attribution.m.head_mask=both", "heads=all",
        says=("attribution.m.head_mask=both needs heads", "heads=grammar, heads=treebank or heads=run"),
    ),
    "heads that are no table": case("heads=run", "heads.run=noise.parquet", says=("noise.parquet is not a Parquet",)),
    "treebank that is none": case(
        "heads=treebank", "heads.select=trees.jsonl", "heads.report=reviews.conllu",
        says=("heads.report=reviews.conllu", "is not CoNLL-U"),
    ),
    "gold without labels": case(
        "dataset.path=unlabelled.tsv", "dataset.columns.label=null", "explain.target=gold",
        says=("explain.target=gold needs a gold label", "row 1 of the data has none"),
    ),
    "filter without labels": case(
        "dataset.path=unlabelled.tsv", "dataset.columns.label=null", "dataset.min_gold_probability=0.3",
        says=("dataset.min_gold_probability=0.3 needs a gold label",),
    ),
    "answers of a classifier": case(
        "evaluation.metrics=[answer_recall]",
        says=("evaluation.metrics: answer_recall needs gold answers", "take it out"),
    ),
    "spans cannot be deleted from": case(
        *QA, "model.path=spans", "evaluation.operator=delete", "explain.target=runner_up",
        says=("explain.target=runner_up does not fit this model; choose predicted, span, gold",),
        too=(("evaluation.operator=delete cannot be used", "Choose one of mask, unk, pad"),),
    ),
}  # fmt: skip
CASES = BEFORE_ANY_WORK | IN_THE_DATA | IN_THE_MODEL | IN_BOTH


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything the cases name, right and wrong."""
    root = tmp_path_factory.mktemp("wrong")
    write_models(root)
    write_data(root)
    share, role = torch.full((2, 2), 0.5), "positional:-1"
    HeadScores({role: share}, {role: 0.1}, {role: 9}, {role: share > 1}, {role: None}).save(root / "small.parquet")
    return root


def write_models(root: Path) -> None:
    save_tiny("bert", root / "tiny")
    save_tiny("bert_qa", root / "spans")
    weights, words = "model.safetensors", "tokenizer.json"
    for name, missing in (("pickled", weights), ("mute", words), ("hollow", weights)):
        save_tiny("bert", root / name)
        (root / name / missing).unlink()
    (root / "mute" / "vocab.txt").unlink()
    torch.save(tiny_model("bert").state_dict(), root / "pickled" / "pytorch_model.bin")


def write_data(root: Path) -> None:
    table = "sentence\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in zip(TEXTS, LABELS, strict=True))
    files = {
        "reviews.tsv": table,
        "reviews.doc": table,
        "reviews.conllu": table,
        "header.tsv": "sentence\tlabel\n",
        "empty.tsv": "",
        "blank.tsv": "sentence\tlabel\n \tpositive\n  \tnegative\n",
        "mixed.tsv": table + "fine but slow\tmixed\n",
        "numbers.tsv": "sentence\tlabel\nfine\t1\nbad\t7\n",
        "unlabelled.tsv": "sentence\nfine\nbad\n",
        "ragged.tsv": table.replace("the meal", "the\tmeal"),
        "noise.parquet": "no parquet " * 9,
        "broken.jsonl": json.dumps({"sentence": "fine", "label": 1}) + "\n{sentence}\n",
        "questions.jsonl": json.dumps(QUESTION),
        "trees.jsonl": json.dumps(TREE),
    }
    for name, text in files.items():
        (root / name).write_text(text)
    (root / "latin.tsv").write_bytes("sentence\tlabel\na café\tpositive\n".encode("latin1"))


@pytest.fixture
def told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[list[str], set[str]]]]:
    """Runs the base with changes: the lines on standard error, and the files that were not there before."""
    monkeypatch.chdir(folder)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)

    def tell(*overrides: str) -> tuple[list[str], set[str]]:
        before = files_below(folder)
        assert main(["run", *BASE, *overrides]) == 4
        return capsys.readouterr().err.splitlines(), files_below(folder) - before

    yield tell
    assert not (folder / "outputs" / "runs").exists()


BASE = (
    "model=local", "model.path=tiny", "dataset=local", "dataset.path=reviews.tsv", "dataset.columns.text=sentence",
    "dataset.columns.label=label", "attribution=none", "attribution.m.method=gradcam", "evaluation.controls=[]",
)  # fmt: skip


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize("name", CASES)
def test_one_line_says_what_is_wrong(name: str, told: Callable[..., tuple[list[str], set[str]]]) -> None:
    lines, written = told(*CASES[name].overrides)
    assert len(lines) == len(CASES[name].lines), lines
    for line, parts in zip(lines, CASES[name].lines, strict=True):
        assert line.startswith("conf error: ")
        assert [part for part in parts if part not in line] == [], line
    assert not written


# --- what only predictions or attention can tell: these results are kept for the next attempt -----------------------


def test_labels_in_another_order_are_named_with_the_order_that_fits(
    folder: Path, told: Callable[..., tuple[list[str], set[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    data = folder / "swapped.tsv"
    data.write_text("sentence\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in swapped(folder)))
    lines, written = told("dataset.path=swapped.tsv")
    assert [line for line in lines if "error" in line] == lines[-1:]
    assert lines[-1].startswith("conf error: model.label_map: the model agrees with 0.0% of the labels")
    assert {path.split("/")[1] for path in written if "/" in path} == {"store"}
    advice = re.findall(r"'(\+\+model\.label_map\.\w+=\d)'", lines[-1])
    assert sorted(advice) == ["++model.label_map.negative=1", "++model.label_map.positive=0"]
    root = "paths.root=" + str(folder / "mended")
    assert main(["run", *BASE, "dataset.path=swapped.tsv", *advice, root, "heads=all", "tracking=none"]) == 0
    assert "accuracy 1.000" in capsys.readouterr().err


def swapped(folder: Path) -> list[tuple[str, str]]:
    """Texts with the class the model does not predict."""
    explainer = Explainer.from_pretrained(folder / "tiny")
    texts = [f"{a} {b} {c} ." for a, b, c in product(WORDS[2:10], WORDS[10:14], WORDS[14:16])]
    ids = explainer.tokenizer(texts, padding=True, return_tensors="pt")
    predicted = explainer.adapter.logits(Inputs.from_mapping(ids)).argmax(1).tolist()
    return [(text, "negative" if guess else "positive") for text, guess in zip(texts, predicted, strict=True)]


def test_relations_the_treebank_has_not_leave_no_run(told: Callable[..., tuple[list[str], set[str]]]) -> None:
    lines, written = told("heads=treebank", "heads.select=trees.jsonl", "heads.relations=[obj]", "tracking=none")
    assert [line for line in lines if "error" in line] == lines[-1:]
    assert lines[-1].startswith("conf error: heads.relations=obj cannot be counted on this treebank")
    assert "Its relations are: det, amod, root." in lines[-1]
    assert {path.split("/")[1] for path in written if "/" in path} <= {"store"}
