"""What a run works on: the model, the data set and its tokens, found and checked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from pipeline.config import Config
from pipeline.data import Dataset, load_dataset
from pipeline.data.encode import encode, encode_whole, encoding_notes, length_limit
from pipeline.data.masking import mask_asked
from pipeline.keys import digest
from pipeline.models import ResolvedModel, resolve_model
from pipeline.models.resolve import load_tokenizer, require_task


@dataclass(frozen=True)
class Prepared:
    """A model and the examples it is asked about."""

    model: ResolvedModel
    tokenizer: PreTrainedTokenizerBase
    dataset: Dataset
    examples: pa.Table  # EXAMPLES, in the order of the data; windows in place of texts that are cut up
    texts: pa.Table | None = None  # EXAMPLES, each text whole, where some are cut up
    window: tuple[int, int | None] = (0, None)  # the length of a window, and what neighbours share

    @property
    def notes(self) -> list[str]:
        """What was guessed, cut or left out on the way, in sentences."""
        return [*self.dataset.notes, *encoding_notes(self.examples)]

    @property
    def is_qa(self) -> bool:
        """Whether answers are explained."""
        return self.model.task == "question_answering"

    @property
    def whole(self) -> pa.Table:
        """A row for each text."""
        return self.examples if self.texts is None else self.texts

    def only(self, kept: Sequence[bool]) -> Prepared:
        """The same without some of the examples."""
        return replace(self, examples=self.examples.filter(pa.array(kept)).combine_chunks())

    @cached_property
    def examples_key(self) -> str:
        """Key of the examples table: items say what they contain."""
        return digest({"items": self.examples["item_id"].to_pylist(), "model": self.model.fingerprint})


def prepare(config: Config) -> Prepared:
    """Find and check model and data. Raises `InputError` naming the key, the value and what to do."""
    dataset = load_dataset(config.dataset)
    model = resolve_model(config.model, Path(config.paths.models))
    require_task(model, dataset.task, dataset.name)
    tokenizer = load_tokenizer(model)
    if dataset.task == "masked_token":  # the classes are those of the data: which of its words stands there
        model = replace(model, labels=dict(enumerate(dataset.label_names or ())))
    examples = encode(dataset, tokenizer, config, model_labels=model.labels, max_length=model.max_length)
    if dataset.task == "masked_token":
        examples = mask_asked(examples, dataset, tokenizer, config)
    prepared = Prepared(model, tokenizer, dataset, examples)
    if examples["text_id"].null_count == examples.num_rows:
        return prepared
    whole = encode_whole(dataset, tokenizer, config, model_labels=model.labels)
    window = (length_limit(tokenizer, config, model.max_length), config.dataset.stride)
    return replace(prepared, texts=whole, window=window)
