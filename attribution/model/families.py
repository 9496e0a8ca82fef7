"""What differs between model families, in one table. A further family is a further row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from torch import Tensor, nn

from attribution.errors import InputError


class ReadOut(Enum):
    """What of the last layer a classifier is fed with."""

    FIRST = "the first token"
    LAST = "the last token"
    MEAN = "the mean of all tokens"


@dataclass(frozen=True)
class FeedForward:
    """Where the parts of a feed-forward branch are, as paths inside its block."""

    inward: tuple[str, ...]  # projections into its width; of a gated one first that of what is activated
    activation: str
    outward: str  # projection back to the block's width


@dataclass(frozen=True)
class Block:
    """Where the parts of a block are, as paths inside it."""

    value: str  # projection to the values
    output: str  # projection of the mixed values of all heads, back to the block's width
    attention_norm: str
    mlp: tuple[str, ...]  # run one after the other, without normalisation and residual
    mlp_norm: str
    feed_forward: FeedForward
    norm_first: bool = False  # normalises what enters a branch; else the sum that leaves it
    fused: bool = False  # `value` holds query, key and value side by side, each a third
    query_key: tuple[str, ...] = ()  # projections to queries and keys, where they are not fused

    @property
    def projections(self) -> tuple[str, ...]:
        """Every linear map of the heads."""
        return (*self.query_key, self.value, self.output)


@dataclass(frozen=True)
class Family:
    """Where a family keeps what we read. Paths begin at the base model."""

    layers: Callable[[Any], list[str]]  # configuration -> the blocks in the order they run; shared ones come again
    block: Block
    causal: bool = False
    read_out: Callable[[Any], ReadOut] = lambda config: ReadOut.FIRST  # of its sequence classifiers
    positions_after_padding: bool = False  # position ids start at pad_token_id + 1
    token_types: bool = False  # has embeddings for first and second text; others are not handed token types
    norms: tuple[str, ...] = ()  # classes of hand-written RMS norms
    final_norm: str | None = None  # normalisation after the last block
    # What its language models do between `final_norm` and their decoder: paths inside of the whole model, or functions.
    language_head: tuple[str | Callable[[Tensor], Tensor], ...] = ()


def numbered(path: str) -> Callable[[Any], list[str]]:
    """Blocks in a list, each run once."""
    return lambda config: [f"{path}.{layer}" for layer in range(config.num_hidden_layers)]


def _shared(config: Any) -> list[str]:
    """ALBERT: few groups of blocks, each run several times in turn."""
    per_group = config.num_hidden_layers / config.num_hidden_groups
    return [
        f"encoder.albert_layer_groups.{int(layer / per_group)}.albert_layers.{inner}"
        for layer in range(config.num_hidden_layers)
        for inner in range(config.inner_group_num)
    ]


def _pooling(config: Any) -> ReadOut:
    """ModernBERT says in its configuration what its classifiers pool."""
    return {"cls": ReadOut.FIRST, "mean": ReadOut.MEAN}[config.classifier_pooling]


BERT_BLOCK = Block(
    "attention.self.value", "attention.output.dense", "attention.output.LayerNorm", ("intermediate", "output.dense"),
    "output.LayerNorm", FeedForward(("intermediate.dense",), "intermediate.intermediate_act_fn", "output.dense"),
    query_key=("attention.self.query", "attention.self.key"),
)  # fmt: skip
DISTILBERT_BLOCK = Block(
    "attention.v_lin", "attention.out_lin", "sa_layer_norm", ("ffn",), "output_layer_norm",
    FeedForward(("ffn.lin1",), "ffn.activation", "ffn.lin2"),
    query_key=("attention.q_lin", "attention.k_lin"),
)  # fmt: skip
ALBERT_BLOCK = Block(
    "attention.value", "attention.dense", "attention.LayerNorm", ("ffn", "activation", "ffn_output"),
    "full_layer_layer_norm", FeedForward(("ffn",), "activation", "ffn_output"),
    query_key=("attention.query", "attention.key"),
)  # fmt: skip
DEBERTA_BLOCK = replace(
    BERT_BLOCK,
    value="attention.self.value_proj",
    query_key=("attention.self.query_proj", "attention.self.key_proj"),
)
MODERNBERT_BLOCK = Block(
    "attn.Wqkv", "attn.Wo", "attn_norm", ("mlp",), "mlp_norm", FeedForward(("mlp.Wi",), "mlp.act", "mlp.Wo"),
    norm_first=True, fused=True,
)  # fmt: skip
GPT2_BLOCK = Block(
    "attn.c_attn", "attn.c_proj", "ln_1", ("mlp",), "ln_2", FeedForward(("mlp.c_fc",), "mlp.act", "mlp.c_proj"),
    norm_first=True, fused=True,
)  # fmt: skip
LLAMA_BLOCK = Block(
    "self_attn.v_proj", "self_attn.o_proj", "input_layernorm", ("mlp",), "post_attention_layernorm",
    FeedForward(("mlp.gate_proj", "mlp.up_proj"), "mlp.act_fn", "mlp.down_proj"), norm_first=True,
    query_key=("self_attn.q_proj", "self_attn.k_proj"),
)  # fmt: skip


def _decoder(layers: str, block: Block, final_norm: str, *norms: str) -> Family:
    return Family(
        numbered(layers), block, causal=True, read_out=lambda config: ReadOut.LAST, norms=norms, final_norm=final_norm
    )


BERT = Family(numbered("encoder.layer"), BERT_BLOCK, token_types=True, language_head=("cls.predictions.transform",))
ROBERTA = replace(
    BERT, positions_after_padding=True, language_head=("lm_head.dense", nn.functional.gelu, "lm_head.layer_norm")
)
DISTILBERT_HEAD = ("vocab_transform", "activation", "vocab_layer_norm")
ALBERT_HEAD = ("predictions.dense", "predictions.activation", "predictions.LayerNorm")

FAMILIES: dict[str, Family] = {
    "bert": BERT,
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "electra": replace(BERT, language_head=("generator_predictions",)),
    "distilbert": Family(numbered("transformer.layer"), DISTILBERT_BLOCK, language_head=DISTILBERT_HEAD),
    "albert": Family(_shared, ALBERT_BLOCK, token_types=True, language_head=ALBERT_HEAD),
    "deberta-v2": replace(BERT, block=DEBERTA_BLOCK),
    "modernbert": Family(
        numbered("layers"), MODERNBERT_BLOCK, read_out=_pooling, final_norm="final_norm", language_head=("head",)
    ),
    "gpt2": _decoder("h", GPT2_BLOCK, "ln_f"),
    "llama": _decoder("layers", LLAMA_BLOCK, "norm", "LlamaRMSNorm"),
    "qwen3": _decoder("layers", LLAMA_BLOCK, "norm", "Qwen3RMSNorm"),
}


WITH_PATTERNS = "headlight-"  # of a model type: the same family, whose heads follow patterns


def family_of(model_type: str) -> Family:
    """The row of a model type; raises `InputError` naming the known ones."""
    try:
        return FAMILIES[model_type.removeprefix(WITH_PATTERNS)]
    except KeyError:
        raise InputError(f"model: type {model_type} is not supported; known types: {', '.join(FAMILIES)}") from None
