"""The export under ERASER's own metrics, written anew from their definitions, against the values of the run itself.

All words are single tokens of the model, so that the tokens of both are the same.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score
from tiny_experiment import TEXTS, tiny_overrides
from tiny_models import save_tiny

from pipeline.eraser import export_eraser
from pipeline.execution import make_progress
from pipeline.run import run
from pipeline.runs import Run
from pipeline.validate import load_config

METRICS = ("auprc", "token_f1", "iou_f1", "comprehensiveness", "sufficiency")
IN_PIECES = ("so", "as", "this", "one")  # that the tiny model does not know as words
THRESHOLDS = (0.01, 0.05, 0.1, 0.2, 0.5)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A run on texts of which all but one have two runs of marked words, and its export."""
    folder = tmp_path_factory.mktemp("eraser")
    rows = []
    for number, (text, label) in enumerate(TEXTS):
        words = [word for word in text.split(" ") if word not in IN_PIECES]
        starts = [len(" ".join(words[:at])) + (at > 0) for at in range(len(words) + 1)]
        spans = [[starts[at], starts[at + size] - 1] for at, size in ((0, 2), (3, 1)) if at + size <= len(words)]
        rows.append({"sentence": " ".join(words), "label": label, "rationale": spans if number else None})
    pq.write_table(pa.Table.from_pylist(rows), folder / "marked.parquet")
    overrides = [
        *tiny_overrides(save_tiny("bert", folder / "tiny"), folder), f"dataset.path={folder / 'marked.parquet'}",
        "attribution.m.method=input_x_gradient", "attribution.r.method=random", "evaluation.controls=[]", "heads=all",
        f"evaluation.metrics=[{','.join(METRICS)}]", "evaluation.operator=mask", f"paths.root={folder / 'outputs'}",
    ]  # fmt: skip
    found = run(load_config(overrides), overrides, make_progress(silent=True)).folder
    export_eraser(Run(found), folder / "export")
    return found, folder / "export"


def ours(folder, method, metric):
    rows = pq.read_table(folder / "values.parquet").to_pylist()
    return {row["item_id"]: row["value"] for row in rows if (row["method"], row["metric"]) == (method, metric)}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def truth_of(export):
    """Marked spans of tokens by document, of the annotations that have any."""
    rows = lines(export / "test.jsonl")
    return {
        row["annotation_id"]: [(each["start_token"], each["end_token"]) for each in map(one, row["evidences"])]
        for row in rows if row["evidences"]
    }  # fmt: skip


def one(group):
    (evidence,) = group
    return evidence


def predicted_of(export, method):
    return {row["annotation_id"]: row for row in lines(export / "results" / f"{method}.jsonl")}


def hard(row):
    (rationale,) = row["rationales"]
    return [(each["start_token"], each["end_token"]) for each in rationale["hard_rationale_predictions"]]


def tokens_of(spans):
    return {token for start, end in spans for token in range(start, end)}


def f1(precision, recall):
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def token_f1(truth, predicted):
    """Of one instance: exact matches of tokens."""
    shared = len(tokens_of(truth) & tokens_of(predicted))
    return f1(shared / len(tokens_of(predicted)), shared / len(tokens_of(truth)))


def iou_f1(truth, predicted):
    """Of one instance, partial matches: a predicted span counts whose best overlap with a marked one is a half."""

    def iou(a, b):
        return len(tokens_of([a]) & tokens_of([b])) / len(tokens_of([a]) | tokens_of([b]))

    hits = sum(max(iou(own, wanted) for wanted in truth) >= 0.5 for own in predicted)
    return f1(hits / len(predicted), hits / len(truth))


def faithfulness(row, name):
    """The mean over thresholds of what the predicted class loses (`aopc_thresholded_scores`)."""
    label = row["classification"]
    assert [each["threshold"] for each in row["thresholded_scores"]] == list(THRESHOLDS)
    drops = [
        row["classification_scores"][label] - each[f"{name}_classification_scores"][label]
        for each in row["thresholded_scores"]
    ]
    return sum(drops) / len(drops)


@pytest.mark.parametrize("method", ["m", "r"])
def test_token_and_span_f1_of_hard_rationales(done, method):
    folder, export = done
    truth, predicted = truth_of(export), predicted_of(export, method)
    assert len(truth) == len(TEXTS) - 1
    sizes = {item: len(tokens_of(hard(row))) for item, row in predicted.items()}
    assert set(sizes.values()) <= {1, 2, 3}  # three are marked on average, and one text has fewer tokens
    for metric, score in (("token_f1", token_f1), ("iou_f1", iou_f1)):
        found = ours(folder, method, metric)
        assert {item for item, value in found.items() if math.isnan(value)} == found.keys() - truth.keys()
        for item, spans in truth.items():
            assert found[item] == pytest.approx(score(spans, hard(predicted[item]))), (metric, item)
    assert np.nanmax(list(ours(folder, method, "iou_f1").values())) > 0


@pytest.mark.parametrize("method", ["m", "r"])
def test_average_precision_of_soft_rationales(done, method):
    """Texts of which all is marked, or nothing, are left out by ERASER and undefined here."""
    folder, export = done
    truth, predicted, found = truth_of(export), predicted_of(export, method), ours(folder, method, "auprc")
    undefined = 0
    for item, value in found.items():
        (rationale,) = predicted[item]["rationales"]
        soft = rationale["soft_rationale_predictions"]
        marks = [token in tokens_of(truth.get(item, [])) for token in range(len(soft))]
        if len(set(marks)) == 1:
            undefined += 1
            assert math.isnan(value)
        else:
            assert value == pytest.approx(average_precision_score(marks, soft))
    assert 0 < undefined < len(found)


@pytest.mark.parametrize("method", ["m", "r"])
@pytest.mark.parametrize("metric", ["comprehensiveness", "sufficiency"])
def test_faithfulness_over_the_thresholds(done, method, metric):
    folder, export = done
    rows, found = predicted_of(export, method), ours(folder, method, metric)
    assert found.keys() == rows.keys()
    for item, value in found.items():
        assert value == pytest.approx(faithfulness(rows[item], metric), abs=1e-6)
