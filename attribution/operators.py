"""What can be done to tokens of a text to see what becomes of a prediction, and with which models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attribution.errors import InputError

if TYPE_CHECKING:
    from attribution.model.adapter import ModelAdapter

OPERATORS = {  # in order of preference; operators with a token put it in place
    "mask": "mask_id",
    "delete": None,
    "unk": "unk_id",
    "pad": "pad_id",
    "attention_mask_out": None,  # the token stays where it is, and no token attends to it
    "zero_embedding": None,  # the token keeps its place, its word embedding is nothing
    "mean_embedding": None,  # or that of all words on average
}
EMBEDDINGS = {"zero_embedding": 1, "mean_embedding": 2}  # what stands in a copy's `swapped`


def available_operators(adapter: ModelAdapter) -> list[str]:
    """The operators this model can be perturbed with, the default first."""
    return [name for name in OPERATORS if refusal(adapter, name) is None]


def refusal(adapter: ModelAdapter, operator: str) -> str | None:
    """Why an operator does not work on this model; None where it does."""
    token = OPERATORS[operator]
    if operator == "delete":
        moves = adapter.task == "question_answering"
        return "deleting tokens would move the positions that question answering explains" if moves else None
    if operator in EMBEDDINGS:
        return None
    if token is None:
        hides = adapter.causal or adapter.task == "question_answering"
        return "it would hide the position that decoders and question answering are read at" if hides else None
    if getattr(adapter, token) is None:
        return f"the tokenizer has no {operator} token"
    if adapter.causal and adapter.task == "classification" and getattr(adapter, token) == adapter.pad_id:
        return "a decoder's classifier reads its last token that is not padding; padding in place moves the read-out"
    return None


def resolve_operator(adapter: ModelAdapter, operator: str | None) -> str:
    """The operator asked for, or the model's default; InputError where it cannot be used."""
    choices = available_operators(adapter)
    if operator is None:
        if choices[0] in EMBEDDINGS:
            raise InputError(
                "operator: this model has no mask, unk or pad token to replace tokens with; give a tokenizer, or "
                f"choose one of {', '.join(choices)}"
            )
        return choices[0]
    reason = refusal(adapter, operator) if operator in OPERATORS else "there is no such operator"
    if reason is not None:
        raise InputError(f"operator={operator} cannot be used: {reason}. Choose one of {', '.join(choices)}")
    return operator


@contextmanager
def swapped_embeddings(adapter: ModelAdapter, swapped: Tensor | None) -> Iterator[None]:
    """Word embeddings of nothing (1) or of all words on average (2) where `swapped` [R, N] says so."""
    if swapped is None or not bool(swapped.any()):
        yield
        return
    words = adapter.model.get_input_embeddings()
    mean = words.weight.mean(0) if bool((swapped == EMBEDDINGS["mean_embedding"]).any()) else None
    which = swapped.to(words.weight.device)[..., None]

    def swap(_module: object, _args: object, output: Tensor) -> Tensor:
        output = output.masked_fill(which == EMBEDDINGS["zero_embedding"], 0)
        return output if mean is None else torch.where(which == EMBEDDINGS["mean_embedding"], mean, output)

    hook = words.register_forward_hook(swap)
    try:
        yield
    finally:
        hook.remove()
