"""Reading data sets: `load_dataset` gives the same `Dataset` whatever the source."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attribution.errors import InputError
from pipeline.config import DatasetConfig
from pipeline.data.cells import Content
from pipeline.data.examples import Dataset, Example
from pipeline.data.filters import select
from pipeline.data.hub import load_hub
from pipeline.data.known_causes import grammar_sentences, shortcut_reviews
from pipeline.data.local import load_local
from pipeline.data.reviews import SPLITS as REVIEW_SPLITS
from pipeline.data.reviews import load_reviews
from pipeline.keys import digest
from pipeline.naming import dataset_name

__all__ = ["LOADERS", "Dataset", "Example", "load_dataset", "load_texts"]


def load_dataset(config: DatasetConfig) -> Dataset:
    """The examples a run uses. Raises `InputError` naming the key, the value and what to do."""
    content = _loader(config)(config)
    examples, notes = select(content, config)
    return Dataset(
        name=dataset_name(config),
        task=content.task,
        examples=examples,
        label_names=content.label_names,
        fingerprint=digest(
            [content.task, content.label_names, [[*example.content(), example.rationale] for example in examples]]
        ),
        notes=[*content.notes, *notes],
    )


def load_texts(path: str, key: str) -> Dataset:
    """The texts of a file that is no data set to be explained, and is named by another key than `dataset.path`."""
    try:
        return load_dataset(DatasetConfig(source="local", path=path))
    except InputError as error:
        raise InputError(str(error).replace("dataset.path", key)) from error


EMBEDDED: dict[str, Callable[[str], Sequence[Example]]] = {
    "reviews": load_reviews,
    "grammar": grammar_sentences,
    "shortcut": shortcut_reviews,
}


def _load_embedded(config: DatasetConfig) -> Content:
    split = config.split or "test"
    if split not in REVIEW_SPLITS:
        choices = ", ".join(REVIEW_SPLITS)
        raise InputError(f"conf error: dataset.split={split} is not a split of {config.source}; choose {choices}.")
    return Content("classification", list(EMBEDDED[config.source](split)), ["negative", "positive"], [])


LOADERS: dict[str, Callable[[DatasetConfig], Content]] = {
    "local": load_local,
    "hub": load_hub,
    **dict.fromkeys(EMBEDDED, _load_embedded),
}


def _loader(config: DatasetConfig) -> Callable[[DatasetConfig], Content]:
    if config.source not in LOADERS:
        raise InputError(f"conf error: dataset.source={config.source} is not a source; choose {', '.join(LOADERS)}.")
    return LOADERS[config.source]
