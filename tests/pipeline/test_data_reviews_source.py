"""The embedded corpus as a data set."""

from __future__ import annotations

import pytest

from attribution.errors import InputError
from pipeline.config import DatasetConfig
from pipeline.data import load_dataset


def test_reviews_are_the_test_split_with_names_and_rationales() -> None:
    dataset = load_dataset(DatasetConfig(source="reviews"))
    assert (dataset.name, dataset.task, dataset.label_names) == ("reviews", "classification", ["negative", "positive"])
    assert {example.label for example in dataset.examples} == {"negative", "positive"}
    assert all(example.rationale for example in dataset.examples)
    train = load_dataset(DatasetConfig(source="reviews", split="train"))
    assert not {example.text for example in dataset.examples} & {example.text for example in train.examples}


def test_reviews_can_be_sampled_and_filtered() -> None:
    dataset = load_dataset(DatasetConfig(source="reviews", keep_labels=["positive"], limit=10, sample_seed=3))
    assert [example.label for example in dataset.examples] == ["positive"] * 10


def test_unknown_split() -> None:
    with pytest.raises(InputError, match=r"dataset.split=dev is not a split of reviews; choose train, test"):
        load_dataset(DatasetConfig(source="reviews", split="dev"))
