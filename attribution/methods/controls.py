"""Yardsticks: what scores look like that know nothing of the model."""

from __future__ import annotations

import torch
from torch import Tensor

from attribution.capture import Capture, Need
from attribution.draws import example_keys, uniform
from attribution.methods.registry import register
from attribution.precision import READ
from attribution.words import is_punctuation


@register("random", needs=Need.NOTHING, source="uniform noise", class_blind=True, control=True)
def random(capture: Capture, *, seed: int = 0) -> Tensor:
    """Uniform scores in [0, 1) that depend on the seed and the row's tokens alone, not on batch, padding or device."""
    return uniform(example_keys(capture.input_ids, capture.visible, seed), capture.input_ids.shape[1])


@register("position", needs=Need.NOTHING, source="order of the tokens", class_blind=True, control=True)
def position(capture: Capture) -> Tensor:
    """Scores that fall evenly from 1 at the first token to 1 / N at the last."""
    place = torch.arange(capture.input_ids.shape[1], device=capture.input_ids.device)
    length = capture.visible.sum(1, keepdim=True)
    return (length - place).clamp(min=0).to(torch.float64) / length


@register(
    "token_frequency",
    needs=Need.NOTHING,
    source="Zipf's law on ranks in the vocabulary",
    class_blind=True,
    control=True,
)
def token_frequency(capture: Capture) -> Tensor:
    """The rarer the token, the higher: log(1 + id), as vocabularies are ordered by frequency.

    No corpus is needed: under Zipf's law the frequency of the token of rank r is proportional to 1 / r.
    """
    return capture.input_ids.to(torch.float64).log1p()


@register(
    "embedding_norm",
    needs=Need.NOTHING,
    source="length of the word embedding",
    class_blind=True,
    control=True,
    precision=READ,
)
def embedding_norm(capture: Capture) -> Tensor:
    """Euclidean norm of each token's word embedding: what gradient x input scores by if all gradients were alike."""
    distinct, places = torch.unique(capture.input_ids, return_inverse=True)
    embeddings = capture.trace.adapter.model.get_input_embeddings()
    rows = embeddings.weight[distinct.to(embeddings.weight.device)].to(capture.input_ids.device, torch.float64)
    norms: Tensor = rows.norm(dim=1)[places]
    return norms


@register("punctuation", needs=Need.NOTHING, source="marks and symbols (Unicode P, S)", class_blind=True, control=True)
def punctuation(capture: Capture) -> Tensor:
    """1 for tokens of nothing but punctuation, 0 for others; ids are no text, so 0 for all without a tokenizer."""
    distinct, places = torch.unique(capture.input_ids, return_inverse=True)
    marks = [is_punctuation(text) for text in capture.trace.adapter.texts(distinct.tolist())]
    return torch.tensor(marks, device=places.device).to(torch.float64)[places]
