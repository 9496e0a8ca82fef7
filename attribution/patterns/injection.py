"""Models whose heads follow patterns: the hooks that tell each layer which keys its heads may attend to."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from attribution.errors import InputError
from attribution.model.attention import OWN_FORWARDS
from attribution.model.edits import current
from attribution.model.families import Family, family_of
from attribution.patterns.assignment import Layers, assigned, required
from attribution.patterns.attention import CARRYING, NAME
from attribution.patterns.projected import ProjectedAttention
from attribution.patterns.rows import RunningPatterns
from attribution.patterns.schema import PatternFile
from attribution.patterns.tokens import Arcs, Tokens
from attribution.patterns.vocabulary import Vocabulary

KEY = "head_patterns"  # of the configuration, and of the module inside the base model
_trees: ContextVar[Arcs | None] = ContextVar("trees", default=None)


@contextmanager
def trees(arcs: Arcs) -> Iterator[None]:
    """Dependency trees of the texts that are run inside, for patterns that follow relations."""
    token = _trees.set(arcs)
    try:
        yield
    finally:
        _trees.reset(token)


def check_family(model: PreTrainedModel) -> Family:
    """The model's family; InputError where its attention cannot be replaced."""
    family = family_of(model.config.model_type)
    own = sorted({type(module).__name__ for module in model.modules()} & set(OWN_FORWARDS))
    if own:
        raise InputError(
            f"patterns: models of type {model.config.model_type} compute attention by themselves ({own[0]}), where no "
            "pattern can be put; put them beside the heads with target: pal."
        )
    return family


def install(model: PreTrainedModel) -> None:
    """Make a model follow the patterns of its configuration; what they learn and know becomes part of its weights.

    A decoder builds its base model from the configuration too, which then has the patterns already.
    """
    base = model.base_model
    if hasattr(base, KEY):
        return
    heads = PatternHeads(model)
    base.add_module(KEY, heads)
    base.register_forward_pre_hook(heads.begin, with_kwargs=True)
    base.register_forward_hook(heads.end, always_call=True)
    if any(heads.in_place):
        model.config._attn_implementation = NAME
    for block in heads.blocks(base) if len(heads.projected) else ():
        block.get_submodule(heads.family.block.mlp[-1]).register_forward_hook(heads.leave)


class PatternHeads(nn.Module):
    """What a model carries of patterns: which head has which, the vocabulary, and projected attention."""

    spelling: Tensor
    classes: Tensor

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        config = model.config
        self.file = PatternFile.read(getattr(config, KEY), KEY)
        self.inject = required(self.file)
        pal = self.inject.target == "pal"
        self.family = family_of(config.model_type) if pal else check_family(model)
        self.n_layers, self.model_config = len(self.family.layers(config)), config
        size = self.inject.pal
        layers = assigned(
            self.file, self.n_layers, size.heads if pal else config.num_attention_heads, causal=self.family.causal
        )
        nothing: Layers = [{} for _ in layers]
        self.in_place, self.beside = (nothing, layers) if pal else (layers, nothing)
        used = {name for heads in layers for name in heads.values()}
        self.patterns = {name: pattern for name, pattern in self.file.patterns.items() if name in used}
        vocabulary = Vocabulary.empty(config.vocab_size)
        self.register_buffer("spelling", vocabulary.spelling)
        self.register_buffer("classes", vocabulary.classes)
        count = self.n_layers if pal else 0
        self.projected = nn.ModuleList(ProjectedAttention(config.hidden_size, size) for _ in range(count))
        self.running: RunningPatterns | None = None
        self.entered: Tensor | None = None
        self.entering: list[RemovableHandle] = []
        self.depth = 0

    def blocks(self, base: nn.Module) -> list[nn.Module]:
        """The model's blocks, each once: those of some families run several times."""
        return list(dict.fromkeys(base.get_submodule(path) for path in self.family.layers(self.model_config)))

    def know(self, vocabulary: Vocabulary) -> None:
        """Fill in the vocabulary; models have room for more tokens than their tokenizers know."""
        known = len(vocabulary.spelling)
        if known > len(self.spelling):
            raise InputError(f"patterns: the tokenizer has {known} tokens and the model only {len(self.spelling)}.")
        self.spelling[:known] = vocabulary.spelling.to(self.spelling.device)
        self.classes[:known] = vocabulary.classes.to(self.classes.device)

    def begin(self, base: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Read off a text where its patterns hold, before the model runs on it."""
        if any(self.in_place) and self.model_config._attn_implementation not in CARRYING:
            raise InputError(
                f"patterns: attention implementation {self.model_config._attn_implementation!r} knows no patterns; "
                f"this model needs {NAME!r}."
            )
        if self.training and any(getattr(module, "gradient_checkpointing", False) for module in base.modules()):
            raise InputError(
                "patterns: layers are told by their order, which gradient checkpointing changes; turn it off."
            )
        given = inspect.signature(base.forward).bind_partial(*args, **kwargs).arguments
        self.running = RunningPatterns(self.patterns, self.in_place, self.tokens(given), self.inject.dropout_on_fixed)
        self.depth = 0
        # Behind the hooks of whoever explains the model, which change what enters.
        blocks = self.blocks(base) if len(self.projected) else []
        self.entering = [block.register_forward_pre_hook(self.enter) for block in blocks]
        current.set(self.running)

    def end(self, _base: nn.Module, _args: Any, _output: Any) -> None:
        """Forget the text."""
        for hook in self.entering:
            hook.remove()
        self.running, self.entered, self.entering = None, None, []
        current.set(None)

    def enter(self, _block: nn.Module, args: tuple[Any, ...]) -> None:
        """Keep what enters a block."""
        self.entered, self.depth = args[0], self.depth + 1

    def leave(self, _mlp: nn.Module, _args: Any, output: Tensor) -> Tensor:
        """Add what the projected attention says of what entered the block to what its feed-forward branch says."""
        assert self.entered is not None
        assert self.running is not None
        layer = self.depth - 1
        beside: Tensor = self.projected[layer](self.entered, self.beside[layer], self.running)
        return output + beside

    def tokens(self, given: dict[str, Any]) -> Tokens:
        """A text that the base model is given, as predicates read it."""
        ids, mask = given.get("input_ids"), given.get("attention_mask")
        if ids is None or (mask is not None and mask.ndim != 2):
            raise InputError("patterns: models with patterns read input_ids [B, N] and an attention_mask [B, N].")
        real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
        return Tokens(ids, real, Vocabulary(self.spelling, self.classes), self.family.causal, _trees.get())
