"""Model classes with patterns, one for each stock class, so that stock `from_pretrained` of an Auto class loads them.

Importing this module registers their configurations (`headlight-bert`, ...); the classes themselves are made and
registered when such a configuration is read.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    MODEL_MAPPING,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from attribution.errors import InputError
from attribution.model.families import FAMILIES, WITH_PATTERNS, family_of
from attribution.patterns.assignment import required, resolved
from attribution.patterns.injection import KEY, PatternHeads, check_family, install
from attribution.patterns.predicates import evaluate
from attribution.patterns.relevance import PatternRelevance
from attribution.patterns.schema import PatternFile
from attribution.patterns.tokens import Arcs, Tokens
from attribution.patterns.vocabulary import Vocabulary

MAPPINGS = (  # of the Auto classes, from configurations to models
    MODEL_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
)


class WithPatterns:
    """Puts the patterns of its configuration into a model when it is built, before weights are loaded."""

    def __init__(self, config: PreTrainedConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)  # type: ignore[call-arg]
        install(self)


@cache
def config_with_patterns(config_class: type[PreTrainedConfig]) -> type[PreTrainedConfig]:
    """The class of configurations whose models have patterns."""
    name = f"Headlight{config_class.__name__}"
    return type(name, (config_class,), {
        "model_type": WITH_PATTERNS + config_class.model_type,
        "__annotations__": {KEY: "dict | None"},
        KEY: None,
        "from_dict": classmethod(lambda cls, *args, **kwargs: _read(cls, config_class, args, kwargs)),
        "__module__": __name__,
    })  # fmt: skip


def _read(cls: Any, stock: type[PreTrainedConfig], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A configuration from its file. Its models are registered now: importing all of them takes seconds."""
    for mapping in MAPPINGS:
        if stock in mapping:
            mapping.register(cls, model_with_patterns(mapping[stock]), exist_ok=True)
    return super(cls, cls).from_dict(*args, **kwargs)


@cache
def model_with_patterns(model_class: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """The class of models with patterns."""
    config_class = config_with_patterns(model_class.config_class)
    return type(f"Headlight{model_class.__name__}", (WithPatterns, model_class), {
        "config_class": config_class, "__module__": __name__,
    })  # fmt: skip


def inject(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    file: PatternFile,
    *,
    relevance: PatternRelevance | None = None,
) -> PreTrainedModel:
    """A copy of a model, with the patterns of a file put where the file says; `tokenizer` may be None where no pattern
    asks for spellings.

    Saved by `save_pretrained` it is read by `from_pretrained` of any Auto class, once `attribution.patterns` is
    imported. InputError, by name, for models whose attention cannot be replaced and patterns they cannot have.
    """
    if hasattr(model.config, KEY):
        raise InputError("patterns: this model has patterns already; put new ones into the model it was made from.")
    if required(file).target != "pal":
        check_family(model)
    vocabulary = None if tokenizer is None else Vocabulary.of(tokenizer)
    _check_needs(file, vocabulary)
    kind: Any = type(model)
    n_layers = len(family_of(model.config.model_type).layers(model.config))
    chosen = resolved(file, n_layers, model.config.num_attention_heads, relevance)
    made: Any = model_with_patterns(kind)(_config(model, chosen))
    report = made.load_state_dict(model.state_dict(), strict=False)
    assert not report.unexpected_keys
    assert all(f"{KEY}." in key for key in report.missing_keys)
    made.to(device=model.device, dtype=model.dtype).train(model.training)
    if vocabulary is not None:
        pattern_heads(made).know(vocabulary)
    result: PreTrainedModel = made
    return result


def _config(model: PreTrainedModel, file: PatternFile) -> PreTrainedConfig:
    """The model's configuration with patterns."""
    kind: Any = type(model.config)
    given = copy.deepcopy(model.config.to_dict())
    given.pop("model_type")
    config: PreTrainedConfig = config_with_patterns(kind).from_dict({**given, KEY: file.plain()})
    config._attn_implementation = model.config._attn_implementation
    return config


def _check_needs(file: PatternFile, vocabulary: Vocabulary | None) -> None:
    """InputError where a pattern asks for what is not there: spellings, without a tokenizer."""
    ids = torch.zeros(1, 2, dtype=torch.long)
    tokens = Tokens(ids, ids == 0, vocabulary, arcs=Arcs(ids, ids, ids, ()))
    evaluate([pattern.pred for pattern in file.patterns.values()], tokens)


def pattern_heads(model: PreTrainedModel) -> PatternHeads:
    """The part of a model that holds its patterns."""
    heads = getattr(model.base_model, KEY, None)
    if not isinstance(heads, PatternHeads):
        raise InputError("patterns: this model has no patterns.")
    return heads


def _register() -> None:
    for model_type in FAMILIES:
        made = config_with_patterns(CONFIG_MAPPING[model_type])
        CONFIG_MAPPING.register(made.model_type, made, exist_ok=True)


_register()
