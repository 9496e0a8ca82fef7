"""Hub data sets, with real `datasets` objects and errors; nothing is fetched."""

from __future__ import annotations

from typing import Any

import datasets
import pytest
from datasets.exceptions import DatasetNotFoundError

from attribution.errors import InputError
from pipeline.config import DatasetConfig
from pipeline.data import load_dataset

POLARITY = datasets.ClassLabel(names=["neg", "pos"])
TEXT, NUMBER = datasets.Value("string"), datasets.Value("int32")
ANSWERS = {"text": datasets.List(TEXT), "answer_start": datasets.List(NUMBER)}
CONTEXT = "Rome is in Italy."

# name -> (features, row) with the columns the Hub has
HUB = {
    "sst2": ({"sentence": TEXT, "label": POLARITY, "idx": NUMBER}, {"sentence": "fine", "label": 1, "idx": 0}),
    "imdb": ({"text": TEXT, "label": POLARITY}, {"text": "fine", "label": 1}),
    "mnli": (
        {
            "premise": TEXT,
            "hypothesis": TEXT,
            "label": datasets.ClassLabel(names=["entailment", "neutral", "contradiction"]),
        },
        {"premise": "fine", "hypothesis": "good", "label": 0},
    ),
    "qqp": (
        {"question1": TEXT, "question2": TEXT, "label": POLARITY},
        {"question1": "fine", "question2": "b", "label": 1},
    ),
    "squad": (
        {"id": TEXT, "title": TEXT, "context": TEXT, "question": TEXT, "answers": ANSWERS},
        {
            "id": "1",
            "title": "",
            "context": CONTEXT,
            "question": "fine",
            "answers": {"text": ["Italy"], "answer_start": [11]},
        },
    ),
}


def made(name: str) -> datasets.Dataset:
    features, row = HUB[name]
    return datasets.Dataset.from_list([row, row], features=datasets.Features(features))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What `datasets.load_dataset` is called with; it answers with the data set of that name."""
    seen: list[tuple[Any, ...]] = []

    def load(path: str, name: str | None = None, *, split: str | None = None, revision: str | None = None) -> Any:
        seen.append((path, name, split, revision))
        one = made(path)
        return one if split else datasets.DatasetDict({"train": one, "test": one.select([0])})

    monkeypatch.setattr(datasets, "load_dataset", load)
    return seen


@pytest.mark.parametrize("name", HUB)
def test_columns_of_the_hub(name: str, calls: list[tuple[Any, ...]]) -> None:
    dataset = load_dataset(DatasetConfig(source="hub", id=name, split="test", revision="abc", subset="plain"))
    assert calls == [(name, "plain", "test", "abc")]
    assert [example.text for example in dataset.examples] == ["fine", "fine"]
    assert dataset.task == ("question_answering" if name == "squad" else "classification")


def test_names_of_labels_come_with_the_data(calls: list[tuple[Any, ...]]) -> None:
    dataset = load_dataset(DatasetConfig(source="hub", id="imdb", split="test"))
    assert dataset.label_names == ["neg", "pos"]
    assert dataset.label_name(dataset.examples[0].label) == "pos"


def test_answers_keep_their_place(calls: list[tuple[Any, ...]]) -> None:
    dataset = load_dataset(DatasetConfig(source="hub", id="squad", split="validation"))
    assert dataset.examples[0].answers == ((11, "Italy"),)


def test_guessed_split_is_noted(calls: list[tuple[Any, ...]]) -> None:
    dataset = load_dataset(DatasetConfig(source="hub", id="imdb"))
    assert len(dataset.examples) == 1
    assert "split guessed: dataset.split=test of train, test" in dataset.notes


ERRORS: dict[str, tuple[Exception, str]] = {
    "gated": (
        DatasetNotFoundError("Dataset 'a/b' is a gated dataset on the Hub. You must be authenticated to access it."),
        "dataset.id=a/b: the repository is gated; ask for access at https://huggingface.co/datasets/a/b",
    ),
    "missing": (
        DatasetNotFoundError("Dataset 'a/b' doesn't exist on the Hub or cannot be accessed."),
        "dataset.id=a/b: no such repository, or a private one",
    ),
    "revision": (
        DatasetNotFoundError("Revision 'abc' doesn't exist for dataset 'a/b' on the Hub."),
        "dataset.id=a/b: this revision does not exist",
    ),
    "offline": (
        ConnectionError("Couldn't reach 'a/b' on the Hub"),
        "not in the local cache and the Hub cannot be reached",
    ),
    "subset": (
        ValueError("BuilderConfig 'x' not found. Available: ['y']"),
        r"dataset.id=a/b: BuilderConfig 'x' not found",
    ),
    "script": (
        RuntimeError("Dataset scripts are no longer supported, but found b.py"),
        "revision=refs/convert/parquet",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error, message = ERRORS[name]

    def load(*arguments: object, **settings: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(InputError, match=message) as caught:
        load_dataset(DatasetConfig(source="hub", id="a/b"))
    assert "\n" not in str(caught.value)


def test_offline_without_a_cache_is_told(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own behaviour offline, not a stand-in for it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(InputError, match="not in the local cache and the Hub cannot be reached"):
        load_dataset(DatasetConfig(source="hub", id="nobody/nothing"))


def test_id_is_needed() -> None:
    with pytest.raises(InputError, match=r"dataset=hub needs dataset.id"):
        load_dataset(DatasetConfig(source="hub"))
