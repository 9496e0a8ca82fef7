"""Tiny seeded models of every family and task, and a tokenizer to go with them; nothing is downloaded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import BertTokenizerFast, PreTrainedModel

from attribution.decoding import LanguageModelHead

SIZE = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
}
PAD = {"pad_token_id": 0}
TOKENS = {**PAD, "bos_token_id": 1, "eos_token_id": 2}
ROBERTA = {**SIZE, "max_position_embeddings": 66, "pad_token_id": 1}
FACTORISED = {**SIZE, **PAD, "embedding_size": 16}
DISTILBERT = {"vocab_size": 100, "dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 64,
              "max_position_embeddings": 64, "initializer_range": 0.2, **PAD}  # fmt: skip
DEBERTA = {**SIZE, **PAD, "relative_attention": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm",
           "share_att_key": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False,
           "type_vocab_size": 0, "pooler_hidden_size": 32, "pooler_hidden_act": "gelu"}  # fmt: skip
DEBERTA_V2 = {"share_att_key": False, "position_biased_input": True, "type_vocab_size": 2, "position_buckets": -1,
              "norm_rel_ebd": "none"}  # fmt: skip
MODERNBERT = {**SIZE, **TOKENS, "cls_token_id": 1, "sep_token_id": 2, "local_attention": 6,
              "global_attn_every_n_layers": 2, "classifier_pooling": "mean"}  # fmt: skip
GPT2 = {"vocab_size": 100, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64, "initializer_range": 0.2}
GROUPED = {**SIZE, **TOKENS, "num_key_value_heads": 2}

# family -> its configuration class and what is set in it
CONFIGURATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", SIZE),
    "roberta": ("Roberta", ROBERTA),
    "xlm_roberta": ("XLMRoberta", ROBERTA),
    "distilbert": ("DistilBert", DISTILBERT),
    "albert": ("Albert", {**FACTORISED, "num_hidden_groups": 2}),
    "electra": ("Electra", FACTORISED),
    "deberta": ("DebertaV2", DEBERTA),
    "modernbert": ("ModernBert", MODERNBERT),
    "gpt2": ("GPT2", {**GPT2, **TOKENS}),
    "llama": ("Llama", GROUPED),
    "qwen3": ("Qwen3", {**GROUPED, "head_dim": 12}),
}
HEADS = {"": "ForSequenceClassification", "qa": "ForQuestionAnswering", "lm": "ForCausalLM"}
CLASS_NAMES = {"GPT2ForCausalLM": "GPT2LMHeadModel"}
DECODERS = ("gpt2", "llama", "qwen3")
MULTI_LABEL = {"num_labels": 3, "problem_type": "multi_label_classification"}

# name -> family, head and what else is set: `bert`, `bert_qa`, `gpt2_lm`, ...
TINY_MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    **{family: (family, "", {}) for family in CONFIGURATIONS},
    **{f"{family}_qa": (family, "qa", {}) for family in CONFIGURATIONS},
    **{f"{family}_lm": (family, "lm", {"tie_word_embeddings": True}) for family in DECODERS},
    "bert_multi": ("bert", "", MULTI_LABEL),
    "modernbert_cls": ("modernbert", "", {"classifier_pooling": "cls"}),
    "deberta_v2": ("deberta", "", DEBERTA_V2),
}
LAYERS = {"gpt2": "n_layer", "distilbert": "n_layers"}


def tiny_model(name: str, dtype: torch.dtype = torch.float64, *, layers: int | None = None) -> PreTrainedModel:
    """A seeded random model with biases and norms that are not at their defaults."""
    family, head, extra = TINY_MODELS[name]
    prefix, settings = CONFIGURATIONS[family]
    depth = {} if layers is None else {LAYERS.get(family, "num_hidden_layers"): layers}
    config = getattr(transformers, f"{prefix}Config")(**{**settings, **extra, **depth})
    architecture = f"{prefix}{HEADS[head]}"
    torch.manual_seed(0)
    model = getattr(transformers, CLASS_NAMES.get(architecture, architecture))(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith("bias"):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
            elif "norm" in parameter_name.lower() or ".ln_" in parameter_name:
                parameter.copy_(1 + 0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval().to(dtype)


def tiny_head(model: PreTrainedModel) -> LanguageModelHead:
    """A seeded random language-model head for a model, in double precision."""
    generator = torch.Generator().manual_seed(4)
    shape = (model.config.vocab_size, model.config.hidden_size)
    weight = 0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return LanguageModelHead((torch.nn.LayerNorm(shape[1]).double().requires_grad_(False),), weight, None, "random")


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


def one_strong_head_a_layer(weak: float) -> PreTrainedModel:
    """A tiny BERT: in layer l head l says three times as much as it did, the others `weak` times."""
    model = tiny_model("bert")
    with torch.no_grad():
        for number, layer in enumerate(model.bert.encoder.layer):
            strength = torch.full((4,), weak).index_fill(0, torch.tensor([number]), 3)
            layer.attention.output.dense.weight *= strength.repeat_interleave(8)
    return model
