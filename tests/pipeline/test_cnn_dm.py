"""CNN/DailyMail in the form that `datasets` writes, as documents of a run, and the configuration that reads them."""

from __future__ import annotations

import json

import pytest

from attribution.errors import InputError
from attribution.words import sentences_of
from pipeline.compose import compose_config
from pipeline.data.cnn_dm import convert, document_of, main
from pipeline.data.summaries import load_documents

RECORD = {
    "id": "42",
    "article": 'LONDON (CNN) -- The cat sat. "A dog barked!" It left at 3.30 p.m. on foot.\nNobody saw it go.',
    "highlights": "A dog barked .\nNobody saw it .",
}
SENTENCES = ["LONDON (CNN) -- The cat sat.", '"A dog barked!"', "It left at 3.30 p.m.", "on foot.", "Nobody saw it go."]


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_articles_become_sentences_and_highlights_one_reference():
    assert document_of(RECORD) == {
        "id": "42",
        "sentences": SENTENCES,
        "references": ["A dog barked .\nNobody saw it ."],
    }


def test_sentences_leave_out_nothing_but_spaces():
    assert sentences_of(" One.  Two \n\n three ") == ["One.", "Two", "three"]
    assert sentences_of(" ") == []


def test_a_file_is_converted_with_the_oracles_sentences(tmp_path, capsys):
    helpless = {"article": "Nothing here.", "highlights": "Of which xyz."}
    source = write(tmp_path / "cnn.jsonl", RECORD, helpless | {"highlights": "zebra"}, RECORD)
    assert main([str(source), str(tmp_path / "train.jsonl")]) == 0
    assert "2 documents" in capsys.readouterr().out
    (first, _) = load_documents(tmp_path / "train.jsonl")
    assert (first.id, list(first.sentences), first.oracle) == ("42", SENTENCES, (1, 4))
    assert not list(tmp_path.glob("*.part"))


def test_what_is_wrong_is_named(tmp_path, capsys):
    source = write(tmp_path / "cnn.jsonl", RECORD, {"article": " ", "highlights": "A."})
    with pytest.raises(InputError, match=r"line 2: article must be a text; CNN/DailyMail has article and highlights"):
        convert(source, tmp_path / "train.jsonl")
    assert not (tmp_path / "train.jsonl").exists()
    assert main([str(tmp_path / "no.jsonl"), str(tmp_path / "train.jsonl")]) == 4
    assert main([]) == 4
    assert "usage" in capsys.readouterr().err


def test_the_configuration_has_the_students_of_the_paper(monkeypatch):
    monkeypatch.setenv("HEADLIGHT_DATA", "/data")
    monkeypatch.setenv("HEADLIGHT_MODELS", "/models")
    config = compose_config(["experiment=paper/patterns_cnn_dm"])
    asked = config.students
    assert (asked.layers, asked.heads, asked.width, asked.sentences, asked.max_length) == (6, 8, 512, 3, 512)
    assert (asked.train, asked.test, asked.texts) == ("/data/cnn_dm/train.jsonl", "/data/cnn_dm/test.jsonl", None)
    assert set(config.patterns.described["patterns"]) == {"match", "intra", "prev", "next"}
