"""What a text costs models with patterns and without: operations, time, and how much of the attention is left out."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from attribution.model.adapter import frozen
from attribution.patterns.controls import sparsity
from attribution.patterns.injection import KEY, PatternHeads

Text = Mapping[str, Tensor]  # what the model takes: input_ids [1, N], attention_mask, ...
REPEATS = 3  # passes that are timed; the middle one counts


class Cost(NamedTuple):
    """Of one text in one model.

    flops: of the matrix products of a forward pass, two for each multiply-add; a dense product counts in full whatever
    a pattern leaves out of it. sparsity: the share of the pairs of tokens, over all heads, that is not attended to.
    """

    flops: int
    seconds: float
    sparsity: float


def costs(models: Mapping[str, PreTrainedModel], texts: Sequence[Text]) -> dict[str, list[Cost]]:
    """What each text costs in each model. They take turns at every text, so that what else the machine does is in all.

    What is timed is a forward pass of one text, with the attention implementation that each model has.
    """
    found: dict[str, list[Cost]] = {name: [] for name in models}
    for model in models.values():
        _forward(model, texts[0])()  # warms up
    for text in texts:
        taken = _timed({name: _forward(model, text) for name, model in models.items()})
        for name, model in models.items():
            found[name].append(Cost(products(_forward(model, text)), taken[name], left_out(model, text)))
    return found


def products(work: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products of `work`; those inside of fused attention are counted too."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def left_out(model: PreTrainedModel, text: Text) -> float:
    """The share of what the queries of a text see in all heads, 0 to 1, that heads with patterns do not attend to.

    Rows for which a pattern allows no key count as their policy has them; what a window hides is not known here.
    """
    patterns = getattr(model.base_model, KEY, None)
    if not isinstance(patterns, PatternHeads):
        return 0.0
    of_patterns = sparsity(patterns.file, patterns.tokens(dict(text)))
    heads = [name for layers in (patterns.in_place, patterns.beside) for layer in layers for name in layer.values()]
    beside = patterns.inject.pal.heads * len(patterns.projected)
    own: int = patterns.n_layers * model.config.num_attention_heads
    return sum(of_patterns[name] for name in heads) / (own + beside)


def _forward(model: PreTrainedModel, text: Text) -> Callable[[], object]:
    def forward() -> object:
        with torch.no_grad(), frozen(model):
            return model(**text)

    return forward


def _timed(works: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds of each, the middle of some rounds in which all take turns."""
    rounds = [{name: _seconds(work) for name, work in works.items()} for _ in range(REPEATS)]
    return {name: statistics.median(each[name] for each in rounds) for name in works}


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started
