"""Sentences of a treebank as texts of a run: patterns may then follow dependency relations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from attribution.errors import InputError
from attribution.heads.alignment import locate_words, words_of_tokens
from attribution.patterns import Arcs
from pipeline.config import Config, DatasetConfig, HeadsConfig, ModelConfig
from pipeline.data import Dataset, Example
from pipeline.data.encode import encode
from pipeline.data.treebanks import Sentence, load_treebank
from pipeline.keys import digest
from pipeline.schemas import TREES
from pipeline.trees import Tree, arcs_of, relations_of


@dataclass(frozen=True)
class ParsedTexts:
    """Sentences in the columns of the examples table, and row by row their trees."""

    table: pa.Table
    trees: tuple[Tree, ...]
    left_out: int  # sentences that are too long, or whose words are not in them
    source: str  # name of the file

    @classmethod
    def load(
        cls, path: Path, tokenizer: PreTrainedTokenizerBase, *, max_length: int, limit: int | None, key: str
    ) -> ParsedTexts:
        """The first `limit` sentences of a file. `key` is what errors name; raises `InputError` where none is left."""
        sentences = {each.text: each for each in load_treebank(path, limit, key=key)}
        examples = [Example(number, text) for number, text in enumerate(sentences)]
        texts = Dataset(path.name, "classification", examples, None, "", [])
        config = Config(model=ModelConfig("local"), dataset=DatasetConfig("local"), heads=HeadsConfig())
        table = encode(texts, tokenizer, config, model_labels={}, max_length=max_length)
        found = [_tree(row, sentences[row["text"]]) for row in table.to_pylist()]
        kept = [at for at, tree in enumerate(found) if tree is not None]
        if not kept:
            raise InputError(f"conf error: {key}={path} has no sentence whose words are found in its text.")
        trees = tuple(tree for tree in found if tree is not None)
        return cls(table.take(kept), trees, len(found) - len(kept), path.name)

    @cached_property
    def relations(self) -> tuple[str, ...]:
        """Dependency relations that occur."""
        return relations_of(self.trees)

    @cached_property
    def trees_key(self) -> str:
        """Key of the table of trees."""
        return digest(self.trees)

    def trees_table(self) -> pa.Table:
        """Row by row what `arcs_of` reads."""
        return pa.Table.from_pylist(list(self.trees), schema=TREES)

    def arcs(self, numbers: Sequence[int], length: int) -> Arcs:
        """Trees of some sentences, padded to one length."""
        return arcs_of([self.trees[number] for number in numbers], length)


def _tree(row: dict[str, Any], sentence: Sentence) -> Tree | None:
    """None for a sentence that was cut, or whose words are not in its text."""
    spans = locate_words(sentence.text, sentence.words)
    if spans is None or row["truncated"]:
        return None
    words = words_of_tokens([(span["start"], span["end"]) for span in row["offsets"]], spans)
    governors = np.where(words < 0, -1, np.asarray(sentence.heads)[words] - 1)
    relations = [None if word < 0 else sentence.deprels[word] for word in words.tolist()]
    return {"word_ids": words.tolist(), "governors": governors.tolist(), "relations": relations}
