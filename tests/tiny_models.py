"""Tiny seeded models, and a tokenizer to go with them; nothing is downloaded."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertTokenizerFast,
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


WORDS = re.findall(
    r"\S+",
    "a the film meal book hotel phone was is not very never good great fine bad awful dull bright slow and but .",
)


def save_tiny(name: str, folder: Path, labels: tuple[str, ...] = ("negative", "positive")) -> Path:
    """A tiny BERT-kind model with a word-piece tokenizer, in a folder like any other checkpoint's."""
    model = tiny_model(name, torch.float32)
    if "qa" not in name:
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {label: index for index, label in enumerate(labels)}
    model.save_pretrained(folder)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    vocabulary += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"] + list("bcdefghijklmnopqrstuvwxyz,?!'")
    words = folder / "vocab.txt"
    words.write_text("\n".join(dict.fromkeys(vocabulary)))
    BertTokenizerFast(str(words), model_max_length=64).save_pretrained(folder)
    return folder
