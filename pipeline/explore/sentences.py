"""Sentences of a treebank as the texts of an explorer: patterns may then follow dependency relations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers import PreTrainedTokenizerBase

from attribution.errors import InputError
from attribution.heads.alignment import Integers, locate_words, words_of_tokens
from attribution.patterns import Arcs
from pipeline.config import Config, DatasetConfig, HeadsConfig, ModelConfig
from pipeline.data import Dataset, Example
from pipeline.data.encode import encode
from pipeline.data.treebanks import Sentence, load_treebank
from pipeline.microbatch import padded


@dataclass(frozen=True)
class Tree:
    """Of each token [N]: its word, the word that governs it, and its relation; -1 where there is none."""

    words: Integers
    governors: Integers
    relations: tuple[str | None, ...]


@dataclass(frozen=True)
class Treebank:
    """Sentences in the columns of the examples table, and their trees."""

    table: pa.Table
    trees: tuple[Tree, ...]
    relations: tuple[str, ...]

    @classmethod
    def load(cls, path: Path, tokenizer: PreTrainedTokenizerBase, max_length: int, limit: int) -> Treebank:
        """The first `limit` sentences of a file; those that are too long, or whose words are not in them, left out."""
        sentences = {each.text: each for each in load_treebank(path, limit, key="--trees")}
        examples = [Example(number, text) for number, text in enumerate(sentences)]
        texts = Dataset(path.name, "classification", examples, None, "", [])
        config = Config(model=ModelConfig("local"), dataset=DatasetConfig("local"), heads=HeadsConfig())
        table = encode(texts, tokenizer, config, model_labels={}, max_length=max_length)
        found = [_tree(row, sentences[row["text"]]) for row in table.to_pylist()]
        kept = [at for at, tree in enumerate(found) if tree is not None]
        if not kept:
            raise InputError(f"error: --trees {path} has no sentence whose words are found in its text.")
        trees = tuple(tree for tree in found if tree is not None)
        names = {name for tree in trees for name in tree.relations if name is not None}
        return cls(table.take(kept), trees, tuple(sorted(names)))

    def arcs(self, numbers: Sequence[int], length: int) -> Arcs:
        """Trees of some sentences, padded to one length."""
        index = {name: at for at, name in enumerate(self.relations)}
        own = [self.trees[number] for number in numbers]
        words, governors, relations = (
            torch.from_numpy(padded(rows, length, -1))
            for rows in (
                [tree.words.tolist() for tree in own],
                [tree.governors.tolist() for tree in own],
                [[-1 if name is None else index[name] for name in tree.relations] for tree in own],
            )
        )
        return Arcs(words, governors, relations, self.relations)


def _tree(row: dict[str, Any], sentence: Sentence) -> Tree | None:
    """None for a sentence that was cut, or whose words are not in its text."""
    spans = locate_words(sentence.text, sentence.words)
    if spans is None or row["truncated"]:
        return None
    words = words_of_tokens([(span["start"], span["end"]) for span in row["offsets"]], spans)
    governors = np.where(words < 0, -1, np.asarray(sentence.heads)[words] - 1)
    return Tree(words, governors, tuple(None if word < 0 else sentence.deprels[word] for word in words.tolist()))
