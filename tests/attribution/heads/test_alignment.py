from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import RobertaConfig, RobertaForSequenceClassification

from attribution.heads.alignment import align, first_tokens, locate_words, words_of_tokens
from attribution.model.adapter import ModelAdapter
from attribution.model.inputs import Inputs


@pytest.mark.parametrize(
    ("text", "words", "pieces"),
    [
        ("I can't go.", ["I", "ca", "n't", "go", "."], ["I", "ca", "n't", "go", "."]),
        ("a 10\u00a0000 b", ["a", "10 000", "b"], ["a", "10\u00a0000", "b"]),  # a no-break space inside a form
        ("  the   the ", ["the", "the"], ["the", "the"]),
        ("so, (well) yes", ["so", "well", "yes"], ["so", "well", "yes"]),  # a treebank without its punctuation
        ("café 😀 ok", ["café", "😀", "ok"], ["café", "😀", "ok"]),
    ],
)
def test_words_are_located_in_order(text, words, pieces):
    assert [text[start:end] for start, end in locate_words(text, words)] == pieces


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("im Haus", ["in", "dem", "Haus"]),  # a form that the text does not spell
        ("the cat sat", ["the", "sat", "cat"]),
        ("a cat", ["cat"]),  # a word of the text that the treebank lacks
        ("a cat", ["a", " ", "cat"]),
    ],
)
def test_words_that_are_not_in_the_text(text, words):
    assert locate_words(text, words) is None


def test_tokens_belong_to_the_word_they_overlap_most():
    #        can't -> ca | n't; tokens can | ' | t, then a token that spans both words and one that covers a space
    spans = [(0, 2), (2, 5), (6, 8), (8, 10)]
    offsets = [(0, 0), (0, 3), (3, 4), (4, 5), (5, 6), (5, 10), (0, 0)]
    assert words_of_tokens(offsets, spans).tolist() == [-1, 0, 1, 1, -1, 2, -1]
    assert words_of_tokens([(1, 5)], spans).tolist() == [1]


def test_first_tokens():
    assert first_tokens(np.array([-1, 0, 0, 2, -1, 2]), 4).tolist() == [1, -1, 3, -1]


def test_aligned_sentences(fixed_offsets, treebank):
    aligned, skipped = align(fixed_offsets(0).adapter, treebank)
    assert not skipped
    last = aligned[2]
    assert last.word_of.tolist() == [-1, 0, 1, 2, 3, 4, 4, 5, 6, -1]
    assert last.first.tolist() == [1, 2, 3, 4, 5, 7, 8]
    assert last.governors.tolist() == [2, 2, -1, 5, 5, 2, 2]
    assert len(last.encoding["input_ids"]) == 10


def test_longest_input_of_bert_and_roberta(tiny):
    assert tiny.adapter.max_length == 64
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=34,
        pad_token_id=1,
    )
    adapter = ModelAdapter(RobertaForSequenceClassification(config), SimpleNamespace(model_max_length=10**30))
    assert adapter.max_length == 32
    adapter.logits(Inputs.of(torch.full((1, 32), 5)))
    with pytest.raises((IndexError, RuntimeError)):
        adapter.logits(Inputs.of(torch.full((1, 33), 5)))
