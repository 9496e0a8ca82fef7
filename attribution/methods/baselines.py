"""What a text is compared with: its tokens replaced, its special tokens, positions and segments as they are."""

from __future__ import annotations

import torch
from torch import Tensor

from attribution.capture import Capture
from attribution.errors import InputError
from attribution.model.adapter import ModelAdapter

BASELINES = {"pad": "pad_id", "mask": "mask_id", "unk": "unk_id", "zero": None}  # in order of preference


def baseline_embeddings(capture: Capture, baseline: str | None) -> Tensor:
    """[B, N, E] word embeddings of the baseline: of one token, or `zero` vectors, wherever a token is not special.

    baseline: None is the first of BASELINES that the model has. The token is looked up by what it is: id 0, which is
    a padding token for some models, is the start of the text for others.
    """
    kept = capture.trace.adapter.special_tokens(capture.trace.inputs)
    filler = _filler(capture.trace.adapter, baseline, capture.embeddings)
    return torch.where(kept[..., None], capture.embeddings, filler)


def _filler(adapter: ModelAdapter, baseline: str | None, like: Tensor) -> Tensor:
    """[E], the vector that stands in for a token."""
    usable = [name for name, token in BASELINES.items() if token is None or getattr(adapter, token) is not None]
    chosen = usable[0] if baseline is None else baseline
    if chosen not in usable:
        raise InputError(f"baseline={baseline} cannot be used with this model; choose one of {', '.join(usable)}")
    token = BASELINES[chosen]
    if token is None:
        return torch.zeros_like(like[0, 0])
    with torch.no_grad():
        vector: Tensor = adapter.model.get_input_embeddings()(
            torch.tensor([getattr(adapter, token)], device=like.device)
        )
    return vector[0]
