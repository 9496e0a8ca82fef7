"""Who is used: filters, then the first or a seeded sample."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import DatasetConfig
from pipeline.data import Dataset, load_dataset

TEXTS = [f"text number {i}" for i in range(60)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "a.tsv", TEXTS)


def write(path: Path, texts: list[str]) -> Path:
    path.write_text("text\tlabel\n" + "".join(f"{text}\t{int(text.split()[-1]) % 3}\n" for text in texts))
    return path


def load(path: Path, **settings: object) -> Dataset:
    return load_dataset(DatasetConfig(source="local", path=str(path), **settings))


def texts(dataset: Dataset) -> list[str]:
    return [example.text for example in dataset.examples]


def test_limit_takes_the_first(file: Path) -> None:
    assert texts(load(file, limit=5)) == TEXTS[:5]
    assert texts(load(file, limit=100)) == TEXTS


def test_sample_keeps_the_order_and_depends_on_the_seed(file: Path) -> None:
    one, again, other = (texts(load(file, limit=20, sample_seed=seed)) for seed in (1, 1, 2))
    assert one == again
    assert one == sorted(one, key=TEXTS.index)
    assert set(one) != set(other)
    assert set(one) != set(TEXTS[:20])


def test_sample_does_not_depend_on_the_order_of_the_file(file: Path, tmp_path: Path) -> None:
    turned = write(tmp_path / "turned.tsv", TEXTS[::-1])
    assert set(texts(load(file, limit=20, sample_seed=1))) == set(texts(load(turned, limit=20, sample_seed=1)))


def test_a_larger_sample_holds_the_smaller(file: Path) -> None:
    assert set(texts(load(file, limit=10, sample_seed=1))) < set(texts(load(file, limit=20, sample_seed=1)))


@pytest.mark.parametrize("keep", [["1"], ["second"]])
def test_keep_labels_by_number_or_name(keep: list[str], file: Path) -> None:
    dataset = load(file, keep_labels=keep, label_names=["first", "second", "third"])
    assert {example.label for example in dataset.examples} == {1}
    assert f"40 of 60 examples left out: label not in dataset.keep_labels={keep}" in dataset.notes


def test_limit_counts_after_the_filters(file: Path) -> None:
    assert [e.row_index for e in load(file, keep_labels=["1"], limit=3).examples] == [1, 4, 7]
