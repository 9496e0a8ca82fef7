"""Data sets of which people marked words: spans that count words, and sentiment trees."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attribution.errors import InputError
from pipeline.config import ColumnsConfig, DatasetConfig
from pipeline.data import load_dataset


def load(tmp_path: Path, rows: list[dict[str, object]], **options: object):
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_dataset(DatasetConfig(source="local", path=str(path), **options))


def marked(example) -> list[str]:
    return [example.text[start:end] for start, end in example.rationale]


def test_spans_that_count_words_become_characters(tmp_path):
    rows = [
        {"text": "a  gripping, tender film .", "label": 1, "spans": [[1, 3], [2, 2], [4, 5]]},
        {"text": "dull", "label": 0, "spans": None},
    ]
    columns = ColumnsConfig(rationale="spans")
    first, second = load(tmp_path, rows, form="marked_words", columns=columns).examples
    assert marked(first) == ["gripping, tender", "."]
    assert second.rationale is None


@pytest.mark.parametrize("span", [[0, 3], [2, 1], [-1, 1]])
def test_words_that_a_text_does_not_have_are_an_error(tmp_path, span):
    rows = [{"text": "so dull", "label": 0, "rationale": [span]}]
    with pytest.raises(InputError, match=rf"row 1 marks the words {span[0]} to {span[1]} of 2"):
        load(tmp_path, rows, form="marked_words")


def test_trees_mark_the_words_on_the_side_of_their_sentence(tmp_path):
    rows = [
        {"tokens": ["A", "lovely", ",", "never", "dull", "film"], "token_label5": [2, 4, 2, 1, 0, 2], "label2": 1},
        {"tokens": ["A", "lovely", "waste"], "token_label5": [2, 3, 1], "label2": 0},
        {"tokens": ["A", "film"], "token_label5": [2, 2], "label2": None},
        {"tokens": ["Not", "bad"], "token_label5": [1, 1], "label2": 1},
    ]
    data = load(tmp_path, rows, form="sentiment_trees")
    assert [example.text for example in data.examples] == ["A lovely , never dull film", "A lovely waste", "Not bad"]
    assert [marked(example) for example in data.examples] == [["lovely"], ["waste"], []]
    assert [data.label_name(example.label) for example in data.examples] == ["positive", "negative", "positive"]
    assert data.notes == ["1 of 4 sentences are neutral and left out"]


def test_a_table_without_trees_is_named(tmp_path):
    with pytest.raises(InputError, match="has no column token_label5; sentiment trees have tokens"):
        load(tmp_path, [{"tokens": ["a"], "label": 1}], form="sentiment_trees")
