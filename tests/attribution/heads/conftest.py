from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from attribution.explainer import Explainer
from attribution.model.inputs import Inputs

PIECES = [
    "the",
    "small",
    "dog",
    "barked",
    "loudly",
    ".",
    "she",
    "really",
    "likes",
    "old",
    "books",
    "we",
    "often",
    "see",
    "red",
    "un",
    "##happy",
    "cats",
    "##s",
    "very",
]

# Parsed by hand; offsets governor - dependent are nsubj +1 +2 +2, obj -2 -3, amod +1 +1 +2 +1, advmod -1 +1 +1.
TREEBANK = [
    (
        "The small dog barked loudly.",
        ["The", "small", "dog", "barked", "loudly", "."],
        [3, 3, 4, 0, 4, 4],
        ["det", "amod", "nsubj", "root", "advmod", "punct"],
    ),
    (
        "She really likes old books.",
        ["She", "really", "likes", "old", "books", "."],
        [3, 3, 0, 5, 3, 3],
        ["nsubj", "advmod", "root", "amod", "obj", "punct"],
    ),
    (
        "We often see red unhappy cats.",
        ["We", "often", "see", "red", "unhappy", "cats", "."],
        [3, 3, 0, 6, 6, 3, 3],
        ["nsubj", "advmod", "root", "amod", "amod", "obj", "punct"],
    ),
]


def word_pieces() -> PreTrainedTokenizerFast:
    vocabulary = {piece: number for number, piece in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *PIECES])}
    inner = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    inner.normalizer = normalizers.Lowercase()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    )


class FixedOffsets:
    """A one-layer model whose heads each look at one offset; where no token stands there they look everywhere."""

    device = torch.device("cpu")
    pad_id = 0
    n_layers = 1
    max_length = 64

    def __init__(self, *offsets: int | None):
        self.offsets, self.n_heads = offsets, len(offsets)
        self.tokenizer = word_pieces()

    def attentions(self, inputs: Inputs) -> list[torch.Tensor]:
        real = inputs.attention_mask.bool()
        return [torch.stack([self._head(real, offset) for offset in self.offsets], dim=1)]

    def _head(self, real: torch.Tensor, offset: int | None) -> torch.Tensor:
        rows, length = real.shape
        weights = (real[:, None, :] / real.sum(1)[:, None, None]).expand(rows, length, length).clone()
        for row, i in real.nonzero().tolist():
            if offset is not None and 0 <= i + offset < length and real[row, i + offset]:
                weights[row, i] = torch.eye(length)[i + offset]
        return weights


@pytest.fixture
def treebank():
    return TREEBANK


@pytest.fixture
def fixed_offsets():
    """Builds an explainer of a model with heads at these offsets (None: a uniform head)."""
    return lambda *offsets: SimpleNamespace(adapter=FixedOffsets(*offsets))


@pytest.fixture
def tiny():
    """A random BERT with two layers of three heads whose attention is peaked, and its tokenizer."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=24,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.5,
        attn_implementation="eager",
    )
    return Explainer(BertForSequenceClassification(config).eval().double(), word_pieces())
