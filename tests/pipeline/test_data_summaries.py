from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from attribution.errors import InputError
from evaluation.summaries import oracle_sentences
from pipeline.data.summaries import load_documents

RECORD = {"id": "x", "sentences": ["A b.", "C d."], "oracle": [0, 1], "references": ["C."]}


def _file(tmp_path, *records):
    path = tmp_path / "documents.jsonl"
    path.write_text("\n".join(json.dumps(record) for record in records))
    return path


def test_documents_as_they_are_written(tmp_path):
    without = {name: value for name, value in RECORD.items() if name not in ("oracle", "id")}
    first, second = load_documents(_file(tmp_path, RECORD, without))
    assert first == ("x", ("A b.", "C d."), ("C.",), (1,))
    assert (second.id, second.oracle) == ("2", None)
    assert len(load_documents(_file(tmp_path, RECORD, without), limit=1)) == 1


def test_empty_sentences_are_left_out(tmp_path):
    record = {"sentences": ["A b.", " ", "C d."], "oracle": [0, 0, 1], "references": ["C."]}
    (found,) = load_documents(_file(tmp_path, record))
    assert found == ("1", ("A b.", "C d."), ("C.",), (1,))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sentences": [""]}, "document 1: sentences must be a list of texts"),
        ({"references": ["a", 1]}, "references must be a list of texts"),
        ({"oracle": [1]}, "oracle must be 0 or 1 for each of the 2 sentences"),
        ({"oracle": [0, 2]}, "oracle must be 0 or 1"),
        ({"oracle": [0, True]}, "oracle must be 0 or 1"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        load_documents(_file(tmp_path, RECORD | change), key="students.documents")


def test_files_that_are_not_there_or_empty(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load_documents(tmp_path / "no.jsonl")
    with pytest.raises(InputError, match="holds no documents"):
        load_documents(_file(tmp_path))


@pytest.mark.realdata
@pytest.mark.skipif("HEADLIGHT_DATA" not in os.environ, reason="needs HEADLIGHT_DATA")
def test_scitldr_is_read():
    sizes = {"train": 1992, "dev": 619, "test": 618}
    for split, size in sizes.items():
        documents = load_documents(Path(os.environ["HEADLIGHT_DATA"]) / "scitldr" / f"{split}.jsonl")
        assert len(documents) == size
        assert all(len(document.oracle) == 1 for document in documents)


@pytest.mark.realdata
@pytest.mark.skipif("HEADLIGHT_DATA" not in os.environ, reason="needs HEADLIGHT_DATA")
def test_oracles_of_scitldr_are_among_the_best_by_rouge():
    documents = load_documents(Path(os.environ["HEADLIGHT_DATA"]) / "scitldr" / "dev.jsonl", limit=40)
    ours = [oracle_sentences(document.sentences, document.references, most=1) for document in documents]
    agree = [set(mine) == set(document.oracle) for mine, document in zip(ours, documents, strict=True)]
    assert sum(agree) / len(agree) > 0.5  # theirs is by ROUGE-1 alone
