"""Runs over texts that are longer than the model takes, explained in windows."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny_experiment import tiny_overrides
from tiny_models import save_tiny

from attribution import Explainer, InputError
from pipeline.execution import make_progress
from pipeline.run import run
from pipeline.stages import attribute
from pipeline.validate import load_config

METHODS = ["attribution.m.method=attcat", "attribution.random.method=random"]
WINDOWS = ["model.max_length=12", "dataset.long_texts=windows", "dataset.stride=3"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny("bert", tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def base(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return [*tiny_overrides(model, tmp_path), *METHODS]


def go(overrides):
    return run(load_config(overrides), overrides, make_progress(silent=True))


def manifest(result):
    return json.loads((result.folder / "manifest.json").read_text())


def table(result, name):
    return pq.read_table(result.folder / f"{name}.parquet").to_pylist()


def test_texts_that_fit_give_the_same_bytes_with_windows_and_without(base):
    plain, windows = go([*base, "paths.root=a"]), go([*base, "paths.root=b", "dataset.long_texts=windows"])
    assert manifest(plain)["files"] == manifest(windows)["files"]
    assert manifest(windows)["windows"] is None


def test_a_long_text_is_one_text_explained_as_by_the_library(base, model):
    result = go([*base, *WINDOWS])
    examples, written = table(result, "examples"), manifest(result)
    assert result.exit_code == 0
    long = [row for row in examples if len(row["input_ids"]) > 12]
    cut = {row["text_id"] for row in table(result, "windows")}
    assert {row["item_id"] for row in long} == cut
    assert written["windows"] == {
        "texts": len(long),
        "windows": len(table(result, "windows")),
        "length": 12,
        "stride": 3,
    }
    assert written["truncated"] == {"examples": 0, "tokens": 0, "share": 0.0}
    assert written["dataset"]["n"] == len(examples) == 7
    explained = Explainer.from_pretrained(model, device="cpu").explain(
        [row["text"] for row in examples], method="attcat", max_length=12, long_texts="windows", stride=3
    )
    found = [row for row in table(result, "attributions") if row["method"] == "m"]
    for row, ours, prediction in zip(found, explained, table(result, "predictions"), strict=True):
        assert row["item_id"] == prediction["item_id"]
        assert row["scores"] == pytest.approx(ours.scores, abs=1e-5)
        assert (row["target"], prediction["predicted"]) == (ours.target, ours.prediction)
        assert prediction["probabilities"] == pytest.approx(ours.probabilities, abs=1e-6)


def test_values_of_a_text_are_the_mean_over_its_windows_by_their_share(base):
    result = go([*base, *WINDOWS, "evaluation.metrics=[aopc]"])
    curves = {(row["method"], row["item_id"]): row for row in table(result, "curves")}
    values = {(row["method"], row["item_id"]): row["value"] for row in table(result, "values")}
    texts = {}
    for row in table(result, "windows"):
        texts.setdefault(row["text_id"], []).append(row)
    assert len(texts) == 2
    for text, windows in texts.items():
        assert sum(row["weight"] for row in windows) == pytest.approx(1)
        drops = [
            row["weight"] * np.mean(curve["intact_probability"][0] - np.array(curve["probabilities"]))
            for row in windows
            for curve in [curves["m", row["item_id"]]]
        ]
        assert values["m", text] == pytest.approx(sum(drops), abs=1e-6)
    assert len([key for key in values if key[0] == "m"]) == 7


def test_a_text_without_one_of_its_windows_is_left_out(base, monkeypatch, capsys):
    whole = go([*base, *WINDOWS])
    window = table(whole, "windows")[1]
    process = attribute.process

    def fails(**payload):
        for example in payload["worker"].open(payload["shard"], payload["rows"])[1]:
            if example["item_id"] == window["item_id"]:
                raise ValueError("too sour")
        return process(**payload)

    monkeypatch.setattr(attribute, "process", fails)
    result = go([*base, *WINDOWS, "paths.root=other"])
    assert result.exit_code == 1
    assert [failure["item_id"] for failure in manifest(result)["failures"]] == [window["item_id"]]
    for name in ("attributions", "values"):
        left, all_of_them = ({row["item_id"] for row in table(each, name)} for each in (result, whole))
        assert left == all_of_them - {window["text_id"]}


def test_a_stride_that_leaves_no_room_is_said(base):
    with pytest.raises(InputError, match=r"dataset\.stride=11: a window of 12 tokens has room for 10"):
        go([*base, *WINDOWS[:2], "dataset.stride=11"])
    with pytest.raises(InputError, match=r"dataset\.stride=3 is for dataset\.long_texts=windows"):
        load_config([*base, "dataset.stride=3"])


def test_questions_are_answered_in_the_surest_window(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = save_tiny("bert_qa", tmp_path / "model")
    context = "the film was good and the meal was awful but never dull . a great book , a bad phone and a slow hotel ."
    asked = [("was it good ?", context, "great"), ("was it bad ?", "a bad film .", "bad")]
    rows = [
        {"question": question, "context": text, "answers": {"text": [answer], "answer_start": [text.index(answer)]}}
        for question, text, answer in asked
    ]
    (tmp_path / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = go([
        "model=local", f"model.path={folder}", "dataset=local", "dataset.path=qa.jsonl", "heads.sentences=150",
        "attribution=none", "attribution.m.method=attcat", "tracking=none", "evaluation.controls=[]",
        "evaluation.metrics=[comprehensiveness,answer_recall]", "model.max_length=16",
        "dataset.long_texts=windows", "dataset.stride=4", "dataset.truncate=only_second",
    ])  # fmt: skip
    assert result.exit_code == 0
    explained = Explainer.from_pretrained(folder, device="cpu").explain(
        [(row["question"], row["context"]) for row in rows],
        method="attcat", max_length=16, long_texts="windows", stride=4,
    )  # fmt: skip
    for row, prediction, ours in zip(
        table(result, "attributions"), table(result, "predictions"), explained, strict=True
    ):
        assert row["scores"] == pytest.approx(ours.scores, abs=1e-5)
        assert (prediction["predicted"], prediction["predicted_end"]) == ours.prediction
        assert (row["target"], row["target_end"]) == ours.target
    examples = table(result, "examples")
    assert [row["tokens"][row["answer_start"]] for row in examples] == ["great", "bad"]
    assert len(table(result, "values")) == 4


def test_removed_sets_of_windows_are_joined_like_curves(base):
    result = go([*base, *WINDOWS, "evaluation.metrics=[tau_loo,gini]"])
    texts = [row["item_id"] for row in table(result, "examples")]
    rows = [row["item_id"] for row in table(result, "removals")]
    windows = [row["item_id"] for row in table(result, "windows")]
    assert set(windows) <= set(rows)
    for metric in ("tau_loo", "gini"):
        found = {row["item_id"]: row["value"] for row in table(result, "values") if row["metric"] == metric}
        assert list(found) == texts
        assert np.isfinite([*found.values()]).all()


def test_a_budget_takes_texts_with_all_their_windows(base, monkeypatch):
    ticks = itertools.count(60, 60)
    monkeypatch.setattr("pipeline.looks.time", SimpleNamespace(monotonic=lambda: next(ticks), perf_counter=lambda: 0.0))
    for module in ("rounds", "looks"):
        monkeypatch.setattr(f"pipeline.{module}.FIRST_LOOK", 4)
    asked = [*base, *WINDOWS, "attribution.w.method=raw_attention"]
    whole, part = go([*asked, "paths.root=whole"]), go([*asked, "evaluation.budget=5m"])
    assert manifest(part)["budget"] | {"rounds": None} == {
        "budget": "5m", "stopped": "spent", "of": 7, "examples": 6, "seconds": 300.0, "rounds": None
    }  # fmt: skip
    reached = {row["item_id"] for row in table(part, "examples")}
    assert reached == {row["item_id"] for row in table(part, "predictions")}
    assert len(reached) == 6
    assert table(part, "windows") == [row for row in table(whole, "windows") if row["text_id"] in reached] != []
    everything = {(row["method"], row["metric"], row["item_id"]): row["value"] for row in table(whole, "values")}
    for row in table(part, "values"):
        assert row["value"] == pytest.approx(everything[row["method"], row["metric"], row["item_id"]], abs=1e-5)
