"""How well each layer's hidden states decode to the tokens they stand at: label-free, over texts."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from attribution import loading
from attribution.capture import Need, trace
from attribution.decoding.credit import MOST_LOGITS, first_occurrences
from attribution.decoding.head import LanguageModelHead, head_for
from attribution.explainer import Explainer
from attribution.model.adapter import align
from attribution.model.inputs import Inputs
from attribution.relevance.node import AbsoluteWeights

TAUS = (1, 3, 5, 10, 50)
Batches = Iterable[Inputs | Mapping[str, Tensor]]


@dataclass(frozen=True)
class Coherence:
    """Means over the positions of words, [L + 1] by name: of the embeddings and of what each block gives.

    recovery@tau: a position's own token is among the tau highest-ranked; in_text@tau: any word of its text is; mass:
    the probability of the text's words; mrr: mean of 1 / rank of its own token; cosine: between the decoder's vectors
    of the highest-ranked token and its own.
    """

    values: dict[str, Tensor]
    positions: int

    def rows(self) -> list[dict[str, Any]]:
        """As a long table: layer, metric, value."""
        return [
            {"layer": layer, "metric": name, "value": value}
            for name, each in self.values.items()
            for layer, value in enumerate(each.tolist())
        ]


def layer_coherence(explainer: Explainer, batches: Batches, taus: Sequence[int] = TAUS) -> Coherence:
    """What the head of an explainer recovers at each layer. Our reconstruction of the paper's semantic coherence."""
    head, adapter = head_for(explainer.adapter, "layer coherence"), explainer.adapter
    total: dict[str, Tensor] = {}
    positions = 0
    for batch in batches:
        inputs = batch if isinstance(batch, Inputs) else Inputs.from_mapping(batch)
        aligned, _ = align(inputs.to(adapter.device))
        words = ~adapter.special_tokens(aligned)
        for layer, hidden in enumerate(_states(explainer, aligned)):
            for name, sums in _sums(head, hidden, aligned.input_ids, words, taus).items():
                total.setdefault(name, torch.zeros(adapter.n_layers + 1, dtype=torch.float64))[layer] += sums
        positions += int(words.sum())
    return Coherence({name: sums / positions for name, sums in total.items()}, positions)


def with_body_of(explainer: Explainer, path_or_id: str | Path) -> Explainer:
    """The same model with the weights that its body had before fine-tuning: those of a pre-trained checkpoint."""
    language_model, _ = loading.load_language_model(path_or_id, causal=explainer.adapter.causal)
    before = copy.deepcopy(explainer.model)
    before.base_model.load_state_dict(language_model.base_model.state_dict(), strict=False)
    return Explainer(before, explainer.tokenizer, max_tokens=explainer.max_tokens, lm_head=explainer.adapter.lm_head)


def _states(explainer: Explainer, aligned: Inputs) -> list[Tensor]:
    """L + 1 times [B, N, D]: what enters the first block, and what each gives."""
    columns = torch.zeros_like(aligned.input_ids[:, :1]) if explainer.adapter.is_generative else None
    run = trace(explainer.adapter, aligned, Need.OUTPUT, AbsoluteWeights(), columns=columns)
    assert run.output is not None
    return [*run.hidden, run.output]


@torch.no_grad()
def _sums(head: LanguageModelHead, hidden: Tensor, ids: Tensor, words: Tensor, taus: Sequence[int]) -> dict[str, float]:
    """Sums over the positions of words of every statistic."""
    rows, _ = words.nonzero(as_tuple=True)
    texts, counted = ids[rows], first_occurrences(ids, words)[rows]
    size = max(1, MOST_LOGITS // head.vocabulary)
    found: dict[str, float] = {}
    pieces = (torch.split(x, size) for x in (hidden[words], ids[words], texts, counted))
    for states, own, text, distinct in zip(*pieces, strict=True):
        for name, values in _statistics(head, head.logits(states), own, text, distinct, taus).items():
            found[name] = found.get(name, 0.0) + float(values.double().sum())
    return found


def _statistics(
    head: LanguageModelHead, logits: Tensor, own: Tensor, text: Tensor, distinct: Tensor, taus: Sequence[int]
) -> dict[str, Tensor]:
    """[M] each, of logits [M, V] at positions with tokens own [M] in texts [M, N] whose words `distinct` marks once."""
    z = logits.gather(1, text).masked_fill(~distinct, -torch.inf)
    rank = _rank(logits, logits.gather(1, own[:, None]))
    nearest = _rank(logits, z.amax(1, keepdim=True))
    best = head.weight[logits.argmax(1)]
    return {
        **{f"recovery@{tau}": rank <= tau for tau in taus},
        **{f"in_text@{tau}": nearest <= tau for tau in taus},
        "mass": (z.logsumexp(1) - logits.logsumexp(1)).exp(),
        "mrr": 1 / rank,
        "cosine": F.cosine_similarity(best, head.weight[own], dim=1),
    }


def _rank(logits: Tensor, value: Tensor) -> Tensor:
    """[M] the place of a value [M, 1] among the logits [M, V]; the highest has 1."""
    return 1 + (logits > value).sum(1)
