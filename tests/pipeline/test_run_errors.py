"""Runs explain what a classifier gets wrong: its words, what becomes of the errors without them, and what is told."""

from __future__ import annotations

import itertools
import json
import math
from importlib import import_module

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tiny_experiment import tiny_overrides
from tiny_models import save_tiny

from attribution import Explainer, Target
from attribution.errors import InputError
from evaluation.errors import NOT_RUN, word_causes
from pipeline.execution import make_progress
from pipeline.plan import describe_plan
from pipeline.run import run
from pipeline.runs import Run
from pipeline.schemas import EXPLAINED_ERRORS
from pipeline.stages import explain_errors
from pipeline.validate import load_config

WORDS = ("the film was good", "never a dull book", "awful and slow", "the phone is great", "a bad , bad meal")


def ran(overrides):
    return run(load_config(overrides), overrides, make_progress(silent=True))


def table(folder, name):
    return pq.read_table(folder / f"{name}.parquet").to_pylist()


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


@pytest.fixture
def base(tmp_path, monkeypatch):
    """Twenty-five texts of which every other one is positive: a model that knows nothing errs about a dozen times."""
    monkeypatch.chdir(tmp_path)
    overrides = tiny_overrides(save_tiny("bert", tmp_path / "tiny"), tmp_path)
    texts = [f"{a} . {b} !" for a, b in itertools.product(WORDS, WORDS)]
    rows = [f"{text}\t{('negative', 'positive')[number % 2]}\n" for number, text in enumerate(texts)]
    (tmp_path / "reviews.tsv").write_text("sentence\tlabel\n" + "".join(rows))
    methods = ["attribution.r.method=random", "attribution.m.method=input_x_gradient", "heads=all"]
    return [*overrides, *methods, "evaluation.metrics=[gini]", "evaluation.controls=[]", "cluster.max_batch=5"]


def test_errors_are_explained_for_both_classes_and_run_again_without_their_words(base, tmp_path):
    result = ran([*base, "errors.method=auto", "errors.draws=4"])
    assert result.exit_code == 0
    examples = {row["item_id"]: row for row in table(result.folder, "examples")}
    predictions = {row["item_id"]: row["predicted"] for row in table(result.folder, "predictions")}
    errors = table(result.folder, "errors")
    wrong = [item for item, row in examples.items() if row["label"] != predictions[item]]
    assert [row["item_id"] for row in errors] == wrong
    record = {"method": "m", "errors": len(wrong), "explained": len(wrong), "undefined": 0}
    assert manifest(result.folder)["errors"] == record
    explainer = Explainer.from_pretrained(tmp_path / "tiny")
    tokenizer = explainer.tokenizer
    for row in errors[:3]:
        ids = torch.tensor([examples[row["item_id"]]["input_ids"]])
        gold, guess = row["gold"], row["predicted"]
        targets = {"contrast": Target("class", guess, contrast=gold), "gold": gold, "predicted": guess}
        for name, target in targets.items():
            wanted = explainer.scores(ids, method="input_x_gradient", target=target)[0]
            np.testing.assert_allclose(row[f"{name}_scores"], wanted, atol=1e-5)
        np.testing.assert_allclose(
            np.array(row["predicted_scores"]) - row["gold_scores"], row["contrast_scores"], atol=1e-5
        )
        for words, class_ in zip(row["sets"], row["classes"], strict=True):
            masked = torch.tensor([[tokenizer.mask_token_id if _word(examples, row, at) in words else token
                                    for at, token in enumerate(ids[0].tolist())]])  # fmt: skip
            logits = explainer.model(masked).logits[0]
            assert class_ == (int(logits.argmax()) if words else NOT_RUN)
        assert len(row["random_classes"]) == 4 * len(row["sets"])
        assert [len(words) for words in row["sets"][:3]] == [1, 2, 3]


def _word(examples, row, token):
    """The number of a token's word: with this tokenizer a word is what stands between spaces."""
    return examples[row["item_id"]]["word_ids"][token]


def test_words_of_a_pair_are_those_of_the_library(base):
    result = ran([*base, "errors.method=m", "errors.words=4"])
    examples = {row["item_id"]: row for row in table(result.folder, "examples")}
    errors, listed = table(result.folder, "errors"), table(result.folder, "error_words")
    pair = (errors[0]["gold"], errors[0]["predicted"])
    words, scores = [], []
    for row in errors:
        if (row["gold"], row["predicted"]) == pair:
            example, sums = examples[row["item_id"]], {}
            for word, score in zip(example["word_ids"], row["contrast_scores"], strict=True):
                if word >= 0:
                    sums[word] = sums.get(word, 0.0) + score
            words.append(example["text"].split())
            scores.append(list(sums.values()))
    found = word_causes(words, scores, number=4)
    own = [row for row in listed if (row["gold"], row["predicted"]) == pair]
    assert own
    assert [row["word"] for row in own] == [cause.word for cause in found.causes]
    np.testing.assert_allclose([row["value"] for row in own], [cause.value for cause in found.causes])
    np.testing.assert_allclose([row["low"] for row in own], [cause.low for cause in found.causes])
    assert {row["errors"] for row in own} == {len(words)}
    caused = {cause.word for cause in found.causes}
    for row in errors:
        if (row["gold"], row["predicted"]) == pair:
            text = examples[row["item_id"]]["text"].split()
            assert {text[word] for word in row["sets"][-1]} == caused & set(text)


def test_errors_at_hand_are_not_computed_again_and_a_limit_draws_among_them(base):
    first = ran([*base, "errors.method=m"])
    again = manifest(ran([*base, "errors.method=m", "name=again", "evaluation.metrics=[entropy]"]).folder)["reuse"]
    for stage in ("explain_errors", "remove_words"):
        assert again[stage]["computed"] == 0
        assert again[stage]["reused"] > 0
    few = ran([*base, "errors.method=m", "errors.limit=3", "name=few"])
    items = [row["item_id"] for row in table(first.folder, "errors")]
    assert sorted(row["item_id"] for row in table(few.folder, "errors")) == sorted(items)[:3]
    record = {"method": "m", "errors": len(items), "explained": 3, "undefined": 0}
    assert manifest(few.folder)["errors"] == record


@pytest.mark.parametrize("stage", ["explain_errors", "remove_words"])
@pytest.mark.parametrize("limit", [1, 3])
def test_an_error_that_cannot_be_computed_costs_only_itself(base, monkeypatch, stage, limit):
    asked = [*base, "errors.method=m", f"errors.limit={limit}"]
    whole = table(ran([*asked, "paths.root=whole"]).folder, "errors")
    module = import_module(f"pipeline.stages.{stage}")
    original, poison = module.process, whole[0]["item_id"]

    def process(**payload):
        found = original(**payload)
        if any(poison in part["item_id"].to_pylist() for part in found.values()):
            raise ValueError("too sour")
        return found

    monkeypatch.setattr(module, "process", process)
    result = ran(asked)
    record = manifest(result.folder)
    assert (result.exit_code, record["errors"]["explained"]) == (1, limit - 1)
    assert {failure["item_id"] for failure in record["failures"]} == {poison}
    rows = Run(result.folder).table("errors").to_pylist()
    assert [row["item_id"] for row in rows] == [row["item_id"] for row in whole[1:]]
    for row, same in zip(rows, whole[1:], strict=True):
        np.testing.assert_allclose(row["contrast_scores"], same["contrast_scores"], atol=1e-5)


def test_scores_that_say_nothing_are_counted_and_have_no_first_word(base, monkeypatch):
    original, ill = explain_errors.process, []

    def process(**payload):
        found = {key: part.to_pylist() for key, part in original(**payload).items()}
        for part in found.values():
            ill.append(part[0]["item_id"])
            part[0]["contrast_scores"] = [math.nan for _ in part[0]["contrast_scores"]]
        return {key: pa.Table.from_pylist(part, schema=EXPLAINED_ERRORS) for key, part in found.items()}

    monkeypatch.setattr(explain_errors, "process", process)
    result = ran([*base, "errors.method=m"])
    assert manifest(result.folder)["errors"]["undefined"] == len(ill) > 0
    for row in table(result.folder, "errors"):
        assert [len(words) for words in row["sets"][:3]] == ([0, 0, 0] if row["item_id"] in ill else [1, 2, 3])
    assert f"{len(ill)} explained errors have no defined scores" in (result.folder / "report.html").read_text()


def test_nothing_is_explained_where_no_method_tells_classes_apart_or_nobody_asks(base):
    blind = [override for override in base if "attribution.m" not in override]
    for overrides in (["errors.method=null", *base], [*blind, "errors.method=auto", "name=blind"]):
        result = ran(overrides)
        assert not (result.folder / "errors.parquet").exists()
        assert "errors" not in manifest(result.folder)
        assert "explain_errors" not in manifest(result.folder)["reuse"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("errors.method=x", r"errors.method=x is not a label of attribution. Choose one of m, auto, or null"),
        ("errors.method=r", r"errors.method=r is a control. Choose one of m, auto, or null"),
        ("errors.limit=0", "errors.limit=0 must be at least 1"),
    ],
)
def test_what_cannot_be_asked_for(base, override, words):
    with pytest.raises(InputError, match=words):
        load_config([*base, override])


def test_a_plan_counts_what_is_known_of_errors(base):
    asked = [*base, "errors.method=m"]

    def lines():
        return [
            line for line in describe_plan(load_config(asked)).splitlines() if "_errors" in line or "_words" in line
        ]

    assert lines() == []  # nothing is predicted yet
    assert "not in that time: errors" in describe_plan(load_config(asked), probe=True).splitlines()
    result = ran([*asked, "errors.method=null"])
    (line,) = lines()
    assert line.startswith("explain_errors: ")
    assert not line.startswith("explain_errors: 0")
    assert "explain_errors" not in manifest(result.folder)["reuse"]
    ran(asked)
    assert [line.split(" to compute")[0] for line in lines()] == [
        "explain_errors: 0 results",
        "remove_words: 0 results",
    ]


def test_a_text_that_cannot_be_cut_into_words_is_no_error_of_ours(base, tmp_path):
    """Texts of one word have nothing left to draw, and a text of no word has nothing to take away."""
    (tmp_path / "reviews.tsv").write_text("sentence\tlabel\n" + "".join(f"good\t{label}\n" for label in
                                          ("negative", "positive")) + "[SEP]\tnegative\n[SEP]\tpositive\n")  # fmt: skip
    result = ran([*base, "errors.method=m"])
    assert result.exit_code == 0
    sets = [row["sets"] for row in table(result.folder, "errors")]
    assert [[0], [0], [0], [0]] in sets or [[0], [0], [0], []] in sets
