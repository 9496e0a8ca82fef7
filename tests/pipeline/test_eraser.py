"""Runs in the format of ERASER: its tokens, its spans, its thresholds, read as its own reader reads them."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attribution import InputError
from evaluation.faithfulness import ERASER_LEVELS
from pipeline.cli import main
from pipeline.eraser import documents, export_eraser, runs_of
from pipeline.runs import Run


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def flattened(folder):
    """As `load_flattened_documents` of the benchmark splits its documents."""
    documents = {row["docid"]: row["document"] for row in rows_of(folder / "docs.jsonl")}
    return {
        name: [word for line in text.split("\n") for word in line.strip().split(" ")]
        for name, text in documents.items()
    }


def rewrite(folder, name, change):
    path = folder / f"{name}.parquet"
    rows = [own for row in pq.read_table(path).to_pylist() for own in change(row)]
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)


@pytest.fixture
def folder(make_run):
    """Every word of more than eight letters comes in two pieces; the adjectives at the end are marked."""
    made = make_run(n=8, methods=["gradcam", "random"])
    rewrite(made, "examples", lambda row: [{**row, "rationale": [token == "isn" for token in row["tokens"]]}])

    def eraser_curves(row):
        levels = {"levels": list(ERASER_LEVELS), "counts": [1] * 5, "logits": [0.0] * 5}
        return [
            {**row, **levels, "curve": family, "probabilities": [0.5 + 0.01 * place + add for place in range(5)]}
            for family, add in (("comprehensiveness", 0.0), ("sufficiency", 0.2))
        ]

    rewrite(made, "curves", eraser_curves)
    return made


def test_spans_are_runs():
    assert runs_of([True, True, False, True]) == [(0, 2), (3, 4)]
    assert runs_of([]) == runs_of([False]) == []


def test_scores_are_those_of_the_pieces_and_spans_those_of_the_reader(folder, tmp_path):
    export_eraser(Run(folder), tmp_path)
    texts = flattened(tmp_path)
    examples = {row["item_id"]: row for row in pq.read_table(folder / "examples.parquet").to_pylist()}
    assert {item: words == examples[item]["text"].split() for item, words in texts.items()} == dict.fromkeys(
        texts, True
    )
    scores = {row["item_id"]: row for row in pq.read_table(folder / "attributions.parquet").to_pylist()
              if row["method"] == "gradcam"}  # fmt: skip
    for found in rows_of(tmp_path / "results" / "gradcam.jsonl"):
        item, (rationale,) = found["annotation_id"], found["rationales"]
        row, soft = examples[item], rationale["soft_rationale_predictions"]
        assert len(soft) == len(texts[item])
        word, wanted = -1, [0.0] * len(texts[item])
        ends = np.cumsum([len(each) + 1 for each in texts[item]])
        for special, span, score in zip(row["special_tokens"], row["offsets"], scores[item]["scores"], strict=True):
            if not special:
                word = int((span["start"] >= ends).sum())
                wanted[word] += score
        np.testing.assert_allclose(soft, wanted, atol=1e-6)
        (span,) = rationale["hard_rationale_predictions"]  # one marked token on average
        assert (span["start_token"], span["end_token"]) == (np.argmax(soft), np.argmax(soft) + 1)


def test_what_people_marked_is_an_evidence(folder, tmp_path):
    export_eraser(Run(folder), tmp_path, ["gradcam"])
    assert not (tmp_path / "results" / "random.jsonl").exists()
    texts = flattened(tmp_path)
    for found in rows_of(tmp_path / "test.jsonl"):
        ((evidence,),) = found["evidences"]
        assert (
            texts[evidence["docid"]][evidence["start_token"] : evidence["end_token"]] == [evidence["text"]] == ["isn't"]
        )
        assert found["classification"] in ("negative", "positive")


def test_thresholds_are_distributions_of_two_classes(folder, tmp_path):
    export_eraser(Run(folder), tmp_path, ["gradcam"])
    predictions = {row["item_id"]: row for row in pq.read_table(folder / "predictions.parquet").to_pylist()}
    for found in rows_of(tmp_path / "results" / "gradcam.jsonl"):
        predicted = predictions[found["annotation_id"]]
        name = ("negative", "positive")[predicted["predicted"]]
        assert found["classification"] == name
        assert [each["threshold"] for each in found["thresholded_scores"]] == list(ERASER_LEVELS)
        for place, each in enumerate(found["thresholded_scores"]):
            assert sum(each["comprehensiveness_classification_scores"].values()) == pytest.approx(1)
            assert each["comprehensiveness_classification_scores"][name] == pytest.approx(0.5 + 0.01 * place)
            assert each["sufficiency_classification_scores"][name] == pytest.approx(0.7 + 0.01 * place)
        assert found["comprehensiveness_classification_scores"][name] == pytest.approx(0.53)  # at 20 %
        assert found["classification_scores"] == pytest.approx(
            dict(zip(("negative", "positive"), predicted["probabilities"], strict=True))
        )


def test_a_pair_is_two_documents(qa_run_folder):
    row = pq.read_table(qa_run_folder / "examples.parquet").to_pylist()[0]
    first, second = documents(row)
    assert (first.id, second.id) == (row["item_id"], f"{row['item_id']}-b")
    assert [len(each.words) for each in (first, second)] == [len(row["text"].split()), len(row["text_b"].split())]
    scores = np.where(np.array(row["field_ids"]) == 1, 1.0, 0.0)
    assert first.shared(scores).sum() == 0
    assert second.shared(scores).sum() == scores.sum()


def test_the_command_writes_it_and_says_what_it_cannot(folder, qa_run_folder, tmp_path, capsys):
    assert main(["export", str(folder), "--out", str(tmp_path / "out"), "--method", "random"]) == 0
    listed = capsys.readouterr().out.split()
    assert listed == [str(tmp_path / "out" / name) for name in ("docs.jsonl", "test.jsonl", "results/random.jsonl")]
    with pytest.raises(InputError, match=r"method=lime is not in .*; it has gradcam, random"):
        export_eraser(Run(folder), tmp_path, ["lime"])
    with pytest.raises(InputError, match="explains question_answering; ERASER's format is for classes"):
        export_eraser(Run(qa_run_folder), tmp_path)
