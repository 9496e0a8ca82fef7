"""Files of every kind, and one line for everything that is wrong with them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attribution.errors import InputError
from pipeline.config import ColumnsConfig, DatasetConfig
from pipeline.data import Dataset, load_dataset

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def load(path: Path, **settings: object) -> Dataset:
    return load_dataset(DatasetConfig(source="local", path=str(path), **settings))


ROWS = [('a "fine" film, really', 1), ("dull", 0), ("naïve — yet moving", 1)]


def as_parquet(path: Path) -> None:
    pq.write_table(pa.table({"sentence": [text for text, _ in ROWS], "label": [label for _, label in ROWS]}), path)


WRITERS: dict[str, Callable[[Path], object]] = {
    "tsv": lambda path: path.write_text("sentence\tlabel\n" + "".join(f"{t}\t{y}\n" for t, y in ROWS)),
    "csv": lambda path: path.write_text(
        "sentence,label\n" + "".join('"{}",{}\n'.format(t.replace('"', '""'), y) for t, y in ROWS)
    ),
    "jsonl": lambda path: path.write_text("".join(json.dumps({"sentence": t, "label": y}) + "\n" for t, y in ROWS)),
    "parquet": as_parquet,
}


@pytest.mark.parametrize("ending", WRITERS)
def test_every_format_gives_the_same_examples(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"films.{ending}"
    WRITERS[ending](path)
    dataset = load(path)
    assert [(e.text, e.label) for e in dataset.examples] == ROWS
    assert (dataset.name, dataset.task) == ("films", "classification")
    assert dataset.notes == ["columns guessed: text=sentence, label=label"]
    assert dataset.fingerprint == load(path).fingerprint


def test_fingerprint_follows_the_content(write: Write) -> None:
    first, second = (load(write("a.tsv", f"text\tlabel\nfine\t{label}\n")) for label in (0, 1))
    assert first.fingerprint != second.fingerprint


def test_windows_line_ends_and_byte_order_mark(write: Write) -> None:
    dataset = load(write("a.tsv", b"\xef\xbb\xbftext\tlabel\r\nfine\t1\r\n\r\ndull\t0\r\n"))
    assert [(e.text, e.label) for e in dataset.examples] == [("fine", 1), ("dull", 0)]


def test_unicode_line_separators_do_not_end_a_row(write: Write) -> None:
    dataset = load(write("a.tsv", "text\tlabel\nfine\u2028and\x85dandy\t1\n"))
    assert dataset.examples[0].text == "fine\u2028and\x85dandy"


def test_csv_cell_over_several_lines_and_longer_than_the_usual_limit(write: Write) -> None:
    long = "word\n" * 40_000
    assert load(write("a.csv", f'text,label\n"{long}",1\n')).examples[0].text == long


@pytest.mark.parametrize(
    ("cells", "labels"),
    [
        (["0", "1"], [0, 1]),
        (["1.0", "0.0"], [1, 0]),
        ([True, False], [1, 0]),
        (["neg", " pos "], ["neg", "pos"]),
        ([1.0, None], [1, None]),
        ([-1, 0], [None, 0]),
        (["-", "entailment"], [None, "entailment"]),
    ],
)
def test_labels_are_integers_or_names(cells: list[object], labels: list[object], write: Write) -> None:
    lines = [json.dumps({"text": "fine", "label": cell}) for cell in cells]
    assert [e.label for e in load(write("a.jsonl", "\n".join(lines))).examples] == labels


def test_missing_labels_are_counted(write: Write) -> None:
    dataset = load(write("a.jsonl", '{"text": "fine", "label": -1}\n{"text": "dull", "label": 0}'))
    assert "1 of 2 examples have no gold label" in dataset.notes


def test_names_of_integer_labels(write: Write) -> None:
    dataset = load(write("a.tsv", "text\tlabel\nfine\t1\n"), label_names=["negative", "positive"])
    assert dataset.label_name(dataset.examples[0].label) == "positive"


CONTEXT = "Rome is in Italy. Rome is old."
SHAPES = {
    "dictionary of lists": {"answers": {"text": ["Italy", "in Italy"], "answer_start": [11, 8]}},
    "list of dictionaries": {
        "answers": [{"text": "Italy", "answer_start": 11}, {"text": "in Italy", "answer_start": 8}]
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_answers_of_several_annotators(shape: str, write: Write) -> None:
    dataset = load(write("qa.jsonl", json.dumps({"question": "Where?", "context": CONTEXT, **SHAPES[shape]})))
    (example,) = dataset.examples
    assert dataset.task == "question_answering"
    assert (example.text, example.text_b) == ("Where?", CONTEXT)
    assert example.answers == ((11, "Italy"), (8, "in Italy"))


@pytest.mark.parametrize(
    ("header", "cells", "answers"),
    [
        ("answer\tanswer_start", "Rome\t18", ((18, "Rome"),)),
        ("answers\tanswer_start", "Rome\t0", ((0, "Rome"),)),
        ("answer", "Italy", ((11, "Italy"),)),
    ],
)
def test_flat_answer_columns(header: str, cells: str, answers: object, write: Write) -> None:
    dataset = load(write("qa.tsv", f"question\tcontext\t{header}\nWhere?\t{CONTEXT}\t{cells}\n"))
    assert dataset.examples[0].answers == answers


def test_unanswerable_questions_are_left_out_and_counted(write: Write) -> None:
    rows = [
        {"question": "Where?", "context": CONTEXT, "answers": {"text": ["Italy"], "answer_start": [11]}},
        {"question": "Who?", "context": CONTEXT, "answers": {"text": [], "answer_start": []}},
        {"question": "Why?", "context": CONTEXT, "answers": {"text": ["Italy"], "answer_start": [12]}},
    ]
    path = write("qa.jsonl", "\n".join(map(json.dumps, rows)))
    dataset = load(path)
    assert [e.text for e in dataset.examples] == ["Where?"]
    assert "1 answers do not stand at their place in the context and are left out" in dataset.notes
    assert "2 of 3 examples left out: no answer (dataset.skip_unanswerable)" in dataset.notes
    assert [e.answers for e in load(path, skip_unanswerable=False).examples] == [((11, "Italy"),), (), ()]


def test_questions_without_gold_answers_stay(write: Write) -> None:
    dataset = load(write("qa.jsonl", json.dumps({"question": "Where?", "context": CONTEXT})))
    assert dataset.examples[0].answers is None


def test_rationale_spans(write: Write) -> None:
    rows = [
        {"text": "not bad", "rationale": [[0, 3]]},
        {"text": "bad", "rationale": [{"start": 0, "end": 3}]},
        {"text": "x"},
    ]
    dataset = load(write("a.jsonl", "\n".join(map(json.dumps, rows))))
    assert [e.rationale for e in dataset.examples] == [((0, 3),), ((0, 3),), None]


PROBLEMS: dict[str, tuple[str, str | bytes, dict[str, object], str]] = {
    "unknown ending": (
        "a.xlsx",
        "text\nfine",
        {},
        r"dataset.path=.*a.xlsx must end in one of .tsv, .csv, .jsonl, .parquet",
    ),
    "wrong column": (
        "a.tsv",
        "sentence\tlabel\nfine\t1",
        {"columns": ColumnsConfig(text="sentense")},
        r"dataset.columns.text=sentense is not a column .* sentence, label. Did you mean sentence",
    ),
    "no usual column": ("a.tsv", "foo\tbar\nfine\t1", {}, r"dataset.columns.text cannot be guessed .* foo, bar"),
    "empty file": ("a.tsv", "", {}, "has no rows"),
    "header only": ("a.csv", "text,label\n", {}, "has no rows"),
    "no objects": ("a.jsonl", "\n\n", {}, "has no rows"),
    "only empty texts": ("a.tsv", "text\tlabel\n \t1\n", {}, "no examples are left .* 1 of 1 .* empty text"),
    "not UTF-8": ("a.tsv", b"text\tlabel\nna\xefve\t1\n", {}, r"is not UTF-8: byte 0xef at position 13"),
    "not JSON": ("a.jsonl", '{"text": "a"}\n{"text": ', {}, "line 2 is not JSON"),
    "not objects": ("a.jsonl", "[1, 2]", {}, "line 1 must be a JSON object, not list"),
    "ragged": ("a.tsv", "text\tlabel\nfine\t1\nfine\n", {}, "row 2 has 1 cells, the header 2"),
    "open quote": ("a.csv", 'text,label\n"fine,1\n', {}, "not readable as csv"),
    "not parquet": ("a.parquet", "text", {}, "not a readable parquet file"),
    "numbers for texts": ("a.jsonl", '{"text": "a"}\n{"text": 5}', {}, "row 2 holds int '5'"),
    "mixed labels": (
        "a.jsonl",
        '{"text": "a", "label": 1}\n{"text": "b", "label": "pos"}',
        {},
        "one kind of label.*1 integer, 1 str",
    ),
    "scores for labels": ("a.jsonl", '{"text": "a", "label": 0.7}', {}, "one kind of label.*holds 1 float"),
    "half a character": ("a.jsonl", '{"text": "a\\ud800"}', {}, "row 1 of column text holds half a surrogate pair"),
    "too few names": (
        "a.tsv",
        "text\tlabel\nfine\t2",
        {"label_names": ["no", "yes"]},
        "names 2 labels, but .* has label 2",
    ),
    "no limit": ("a.tsv", "text\tlabel\nfine\t1", {"limit": 0}, "dataset.limit=0 must be at least 1"),
    "unknown kept label": ("a.tsv", "text\tlabel\nfine\t1", {"keep_labels": ["2"]}, "2 is not a label .* labels are 1"),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_problem_is_one_line_that_names_key_and_value(problem: str, write: Write) -> None:
    name, content, settings, message = PROBLEMS[problem]
    with pytest.raises(InputError) as caught:
        load(write(name, content), **settings)
    assert re.search(message, str(caught.value))
    assert str(caught.value).startswith("conf error: ")
    assert "\n" not in str(caught.value)


def test_missing_file_path_and_source(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dataset.path=.*gone.tsv does not exist"):
        load(tmp_path / "gone.tsv")
    with pytest.raises(InputError, match=r"needs dataset.path"):
        load_dataset(DatasetConfig(source="local"))
    with pytest.raises(InputError, match=r"dataset.source=loacl is not a source; choose local, hub, reviews"):
        load_dataset(DatasetConfig(source="loacl"))


def test_name_of_a_split_file_tells_the_data_set(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    path = tmp_path / "films" / "dev.tsv"
    path.write_text("text\nfine\n")
    assert load(path).name == "films-dev"
    assert load(path, name="mine").name == "mine"


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("path", "task", "n"),
    [
        ("sst2/dev.tsv", "classification", 872),
        ("squad/xquad_en_test.jsonl", "question_answering", 1190),
        ("snli/dev.jsonl", "classification", 9842),
    ],
)
def test_real_files(path: str, task: str, n: int) -> None:
    if "HEADLIGHT_DATA" not in os.environ:
        pytest.skip("HEADLIGHT_DATA is not set")
    dataset = load(Path(os.environ["HEADLIGHT_DATA"], path))
    assert (dataset.task, len(dataset.examples)) == (task, n)
    assert len(dataset.notes) == 1  # the guessed columns; nothing is left out
