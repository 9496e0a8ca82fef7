"""Texts that something is found or chosen on before a run explains: none of those that are explained afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from attribution.errors import InputError
from pipeline.config import Config, DatasetConfig
from pipeline.data import Dataset, Example, load_dataset, load_texts
from pipeline.data.encode import encode
from pipeline.data.filters import draw
from pipeline.microbatch import MicroBatch, plan_microbatches
from pipeline.prepare import Prepared
from pipeline.stages.setting import Setting


@dataclass(frozen=True)
class OtherTexts:
    """Texts, as the examples of a run are prepared."""

    prepared: Prepared
    batches: list[MicroBatch]
    setting: Setting
    source: str  # where they are from, in words
    left_out: int  # how many are explained, and therefore not among them


@dataclass(frozen=True)
class Wanted:
    """What texts are asked for: those of a file, or of the data set; at most so many; with labels or without."""

    path: str | None
    key: str  # of the path in the configuration
    number: int
    labelled: bool
    purpose: str  # "... is chosen on texts"


def other_texts(config: Config, prepared: Prepared, device: str, wanted: Wanted) -> OtherTexts:
    """The texts that are asked for. Raises `InputError` where there are none."""
    data, source = _data(config, prepared, wanted)
    pairs = zip(*(prepared.whole[name].to_pylist() for name in ("text", "text_b")), strict=True)
    explained = {_folded(*pair) for pair in pairs}
    others = [example for example in data.examples if _folded(example.text, example.text_b) not in explained]
    if not others:
        raise InputError(_nothing_left(wanted, len(data.examples)))
    drawn = _drawn(others, wanted, config.seed)
    dataset = replace(data, examples=drawn, label_names=data.label_names if wanted.labelled else None)
    model, tokenizer = prepared.model, prepared.tokenizer
    examples = encode(dataset, tokenizer, _untouched(config), model_labels=model.labels, max_length=model.max_length)
    texts = replace(prepared, dataset=dataset, examples=examples, texts=None)
    batches = plan_microbatches(examples, config.cluster, model.max_length)
    return OtherTexts(texts, batches, Setting.of(config, texts, device), source, len(data.examples) - len(others))


def _data(config: Config, prepared: Prepared, wanted: Wanted) -> tuple[Dataset, str]:
    """Where the texts are taken from, and that in words."""
    if wanted.path is None:
        return load_dataset(_untouched(config).dataset), f"the texts of {prepared.dataset.name} that are not explained"
    data = load_texts(wanted.path, wanted.key)
    if data.task != prepared.dataset.task:
        raise InputError(
            f"conf error: {wanted.key}={wanted.path} is for {data.task}, but the run's data set "
            f"{prepared.dataset.name} is for {prepared.dataset.task}; give texts of its form."
        )
    return data, Path(wanted.path).name


def _untouched(config: Config) -> Config:
    """The same without anything that picks examples or cuts them up."""
    asked = replace(config.dataset, limit=None, skip=0, sample_seed=None, min_tokens=0, long_texts="truncate")
    return replace(config, dataset=asked)


def _folded(*texts: str | None) -> tuple[str, ...]:
    """What two texts that are the same for a reader have in common."""
    return tuple(" ".join((text or "").split()).casefold() for text in texts)


def _drawn(examples: Sequence[Example], wanted: Wanted, seed: int) -> list[Example]:
    """Some of them, each text once; without labels unless these are wanted."""
    found = {_folded(each.text, each.text_b): each for each in examples}
    each = [one if wanted.labelled else replace(one, label=None, answers=None) for one in found.values()]
    return [each[i] for i in draw(each, DatasetConfig(limit=wanted.number, sample_seed=seed))]


def _nothing_left(wanted: Wanted, found: int) -> str:
    where = f"{wanted.key} is missing" if wanted.path is None else f"{wanted.key}={wanted.path}"
    return (
        f"conf error: {where}: {wanted.purpose} that the run does not explain, and it explains all {found}; "
        "name a file of others."
    )
