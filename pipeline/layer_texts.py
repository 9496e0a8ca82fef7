"""The texts on which the layer to decode is chosen: none of those that are explained afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from attribution.capture import Need
from attribution.errors import InputError
from attribution.methods.registry import METHODS
from pipeline.config import Config, DatasetConfig
from pipeline.data import Dataset, Example, load_dataset, load_texts
from pipeline.data.encode import encode
from pipeline.data.filters import draw
from pipeline.microbatch import MicroBatch, plan_microbatches
from pipeline.prepare import Prepared
from pipeline.stages.setting import Setting

AUTO = "auto"  # the value of a method's `layer` that has it chosen


@dataclass(frozen=True)
class LayerTexts:
    """Texts for a choice, as the examples of a run are prepared."""

    prepared: Prepared
    batches: list[MicroBatch]
    setting: Setting
    source: str  # where they are from, in words
    left_out: int  # how many are explained, and therefore not among them


def chosen_labels(attribution: Mapping[str, Any]) -> list[str]:
    """The labels of methods whose layer is to be chosen."""
    return [
        label
        for label, entry in attribution.items()
        if isinstance(entry, Mapping) and entry.get("layer") == AUTO and _decodes(str(entry["method"]))
    ]


def _decodes(method: str) -> bool:
    return method in METHODS and Need.LAYER_GRADIENT in METHODS[method].needs


def layer_texts(config: Config, prepared: Prepared, device: str) -> LayerTexts | None:
    """The texts of a choice; None where no layer is to be chosen. Raises `InputError` where there are none.

    Their labels are taken off, so that nothing can come of them.
    """
    if not chosen_labels(config.attribution):
        return None
    data, source = _data(config, prepared)
    pairs = zip(*(prepared.whole[name].to_pylist() for name in ("text", "text_b")), strict=True)
    explained = {_folded(*pair) for pair in pairs}
    others = [example for example in data.examples if _folded(example.text, example.text_b) not in explained]
    if not others:
        raise InputError(_nothing_left(config, len(data.examples)))
    drawn = _drawn(others, config)
    dataset = replace(data, examples=drawn, label_names=None)
    model, tokenizer = prepared.model, prepared.tokenizer
    examples = encode(dataset, tokenizer, _untouched(config), model_labels=model.labels, max_length=model.max_length)
    texts = replace(prepared, dataset=dataset, examples=examples, texts=None)
    batches = plan_microbatches(examples, config.cluster, model.max_length)
    return LayerTexts(texts, batches, Setting.of(config, texts, device), source, len(data.examples) - len(others))


def _data(config: Config, prepared: Prepared) -> tuple[Dataset, str]:
    """Where the texts are taken from, and that in words."""
    path = config.decoding.texts
    if path is None:
        return load_dataset(_untouched(config).dataset), f"the texts of {prepared.dataset.name} that are not explained"
    data = load_texts(path, "decoding.texts")
    if data.task != prepared.dataset.task:
        raise InputError(
            f"conf error: decoding.texts={path} is for {data.task}, but the run's data set {prepared.dataset.name} is "
            f"for {prepared.dataset.task}; give texts of its form."
        )
    return data, Path(path).name


def _untouched(config: Config) -> Config:
    """The same without anything that picks examples or cuts them up."""
    asked = replace(config.dataset, limit=None, skip=0, sample_seed=None, min_tokens=0, long_texts="truncate")
    return replace(config, dataset=asked)


def _folded(*texts: str | None) -> tuple[str, ...]:
    """What two texts that are the same for a reader have in common."""
    return tuple(" ".join((text or "").split()).casefold() for text in texts)


def _drawn(examples: Sequence[Example], config: Config) -> list[Example]:
    """Some of them, each text once, without labels."""
    bare = {_folded(each.text, each.text_b): replace(each, label=None, answers=None) for each in examples}
    each = list(bare.values())
    return [each[i] for i in draw(each, DatasetConfig(limit=config.decoding.n_texts, sample_seed=config.seed))]


def _nothing_left(config: Config, found: int) -> str:
    label = chosen_labels(config.attribution)[0]
    where = "decoding.texts is missing" if config.decoding.texts is None else f"decoding.texts={config.decoding.texts}"
    return (
        f"conf error: {where}: attribution.{label}.layer={AUTO} is chosen on texts that the run does not explain, "
        f"and it explains all {found}; name a file of others."
    )
