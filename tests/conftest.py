"""Tiny seeded models shared by all tests; nothing is downloaded."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForQuestionAnswering,
    RobertaForSequenceClassification,
)

SIZE = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
ROBERTA = {**SIZE, "max_position_embeddings": 66, "pad_token_id": 1}
GPT2 = {"vocab_size": 100, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64, "initializer_range": 0.2}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}

# name -> how to build it; every model test that should hold for all families runs over these
TINY_MODELS = {
    "bert": lambda: BertForSequenceClassification(BertConfig(**SIZE)),
    "bert_qa": lambda: BertForQuestionAnswering(BertConfig(**SIZE)),
    "roberta": lambda: RobertaForSequenceClassification(RobertaConfig(**ROBERTA)),
    "roberta_qa": lambda: RobertaForQuestionAnswering(RobertaConfig(**ROBERTA)),
    "gpt2": lambda: GPT2ForSequenceClassification(GPT2Config(**GPT2, **TOKENS)),
    "llama": lambda: LlamaForSequenceClassification(LlamaConfig(**SIZE, **TOKENS, num_key_value_heads=2)),
}


def tiny_model(name: str, dtype: torch.dtype = torch.float64) -> PreTrainedModel:
    """A seeded random model with biases and norms that are not at their defaults."""
    torch.manual_seed(0)
    model = TINY_MODELS[name]()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith("bias"):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
            elif "norm" in parameter_name.lower() or ".ln_" in parameter_name:
                parameter.copy_(1 + 0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval().to(dtype)


@pytest.fixture(params=list(TINY_MODELS))
def any_model(request: pytest.FixtureRequest) -> PreTrainedModel:
    """Each tiny model in turn, in float64."""
    return tiny_model(request.param)


@pytest.fixture
def bert() -> PreTrainedModel:
    """A tiny BERT classifier in float64."""
    return tiny_model("bert")


@pytest.fixture
def bert_qa() -> PreTrainedModel:
    """A tiny BERT span model in float64."""
    return tiny_model("bert_qa")
