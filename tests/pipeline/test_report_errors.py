"""The section on errors: what it counts, what it compares, and what it says where there is too little."""

from __future__ import annotations

import html
import json
import re
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.report.build import render
from pipeline.report.texts import Texts
from pipeline.runs import MANIFEST, Run
from pipeline.schemas import ERROR_WORDS, ERRORS

SECTION = re.compile(r'id="errors">(.*?)</section>', re.S)
HOSTILE = "<img src=x onerror=window.hijacked=1>"
D = 2  # random sets of words


def section(folder, texts="full", examples=30):
    found = SECTION.findall(render(Run(folder), texts, examples))
    return html.unescape(re.sub(r"<[^>]+>", " ", found[0])) if found else None


def rewrite(folder, name, change, schema=None):
    path = folder / f"{name}.parquet"
    schema = schema or pq.read_schema(path)
    rows = pq.read_table(path).to_pylist() if path.exists() else []
    pq.write_table(pa.Table.from_pylist(change(rows), schema=schema), path)


def with_errors(folder, wrong):
    """The first `wrong` texts are predicted as the other class, all others as their own; word 0 is to blame."""
    examples = pq.read_table(folder / "examples.parquet").to_pylist()
    classes = {row["item_id"]: (row["label"], row["label"]) for row in examples}
    classes |= {row["item_id"]: (row["label"], 1 - row["label"]) for row in examples[:wrong]}

    def predict(rows):
        chances = ([0.9, 0.1], [0.1, 0.9])
        found = {row["item_id"]: classes[row["item_id"]][1] for row in rows}
        return [{**row, "predicted": (own := found[row["item_id"]]), "probabilities": chances[own]} for row in rows]

    rewrite(folder, "predictions", predict)
    rewrite(folder, "errors", lambda _: [explained(row) for row in examples[:wrong]], ERRORS)
    pairs = Counter(classes[row["item_id"]] for row in examples[:wrong])
    rewrite(folder, "error_words", lambda _: [blamed(*pair, n) for pair, n in pairs.items()], ERROR_WORDS)
    record = {"errors": {"method": "mask_lrp", "errors": wrong, "explained": wrong, "undefined": 0}}
    path = folder / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **record}))
    return folder


def explained(row):
    """An error that is right without its first two words."""
    own, other = row["label"], 1 - row["label"]
    scores = [0.0, 2.0, *[0.1] * (len(row["tokens"]) - 2)]
    found = {"item_id": row["item_id"], "gold": own, "predicted": other, "operator": "mask"}
    found |= {"contrast_scores": scores, "predicted_scores": scores, "gold_scores": [-score for score in scores]}
    found |= {"sets": [[0], [0, 1], [0, 1, 2], []], "classes": [other, own, own, -1]}
    return {**found, "random_classes": [other] * 3 * D + [-1] * D}


def blamed(gold, predicted, n):
    """A word of a pair."""
    about = {"gold": gold, "predicted": predicted, "word": HOSTILE, "n": n, "errors": n, "n_undefined": 0}
    about |= {"value": 0.25, "low": 0.2, "high": 0.3, "shuffled": 0.1}
    return {**about, "above_chance": True, "chance": 3.5, "strength": 4.2}


def test_errors_are_counted_and_compared_with_random_words(make_run):
    folder = with_errors(make_run(n=60), 40)
    found = section(folder)
    assert "40 of 60 labelled texts (66.7% [54.1%, 77.3%]) are not classified as they are labelled" in found
    labels = pq.read_table(folder / "examples.parquet")["label"].to_pylist()
    for gold, name, other in ((0, "negative", "positive"), (1, "positive", "negative")):
        assert f"{labels[:40].count(gold)} errors," in found
        assert f"Labelled {name}, predicted {other}" in found
    assert "mask_lrp: predicted class against gold class" in found
    assert re.search(r"25\.0%\s+\[20\.0%, 30\.0%\]", found)
    assert "above chance" in found
    (first, second) = re.findall(r"its (?:2 )?strongest words?\s+(.*?)(?=its)", found, re.S)[:2]
    assert " ".join(first.split()) == "40 of 40 0% [0, 0] 0% [0, 0] +0 [0, 0]"
    assert " ".join(second.split()) == "40 of 40 100% [100, 100] 0% [0, 0] +100 [100, 100]"
    assert "positive against negative" in found
    assert "without its 2 strongest words" in found
    assert "too few" not in found


def test_what_the_model_is_sure_of_is_for_a_person_to_look_at(make_run):
    found = section(with_errors(make_run(n=60), 4))
    assert "4 of 60 labels (6.7% [2.6%, 15.9%]) are likely to be wrong, if the model is to be believed." in found
    assert "Northcutt" in found


def test_few_errors_are_single_cases(make_run):
    found = section(with_errors(make_run(n=60), 1))
    assert "1 error: too few for an interval (fewer than 10); single cases, no pattern." in found
    assert re.search(r"its 2 strongest words\s+1 of 1\s+100%\s+0%\s+\+100\s+its 3 strongest", found)


def test_no_errors_no_labels_and_other_models_are_said_plainly(make_run, qa_run_folder):
    right = with_errors(make_run("right", n=12), 0)
    assert "All 12 labelled texts are classified as they are labelled." in section(right)
    assert "None of the 12 labels is likely to be wrong" in section(right)
    bare = make_run("bare", n=12)
    rewrite(bare, "examples", lambda rows: [{**row, "label": None, "label_name": None} for row in rows])
    assert "The data has no labels: which predictions are errors cannot be told." in section(bare)
    assert section(qa_run_folder) is None


def test_errors_that_nobody_explained_are_counted_all_the_same(make_run):
    folder = with_errors(make_run(n=30), 12)
    for name in ("errors", "error_words"):
        (folder / f"{name}.parquet").unlink()
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({key: value for key, value in manifest.items() if key != "errors"}))
    found = section(folder)
    assert "12 of 30 labelled texts" in found
    assert "Which words caused them was not asked" in found


@pytest.mark.parametrize("texts", ["full", "sample", "none"])
def test_texts_are_escaped_limited_and_left_out(make_run, monkeypatch, texts):
    folder, showable, asked = with_errors(make_run(n=30), 20), Texts.showable, []
    monkeypatch.setattr(Texts, "showable", lambda *about: asked.append(showable(*about)) or asked[-1])
    page = SECTION.findall(render(Run(folder), texts, 3))[0]
    assert HOSTILE not in page
    assert ("&lt;img" in page) == (texts != "none")
    shown = set(asked[-1])
    assert len(shown) == {"full": 30, "sample": 3, "none": 0}[texts]
    told = re.findall(r'class="card"><div class="facts"><b>#(\d+)<', page)
    told += re.findall(r"#(\d+)</th><td><div>A ", page)
    assert {int(row) for row in told} <= shown
    assert bool(told) == (texts != "none")
    assert ("Words and texts are left out" in page) == (texts == "none")
    if texts == "none":
        words = {token for row in pq.read_table(folder / "examples.parquet").to_pylist() for token in row["tokens"]}
        assert not re.findall(rf">\s*(?:{'|'.join(re.escape(word) for word in words)})\s*<", page)
