"""What differs between model families, in one table. A further family is a further row."""

from __future__ import annotations

from dataclasses import dataclass

from attribution.errors import InputError


@dataclass(frozen=True)
class Family:
    """Where a family keeps what we read."""

    layers: str  # path of the list of blocks inside the base model
    causal: bool = False
    positions_after_padding: bool = False  # position ids start at pad_token_id + 1
    norms: tuple[str, ...] = ()  # classes of hand-written RMS norms


FAMILIES: dict[str, Family] = {
    "bert": Family("encoder.layer"),
    "roberta": Family("encoder.layer", positions_after_padding=True),
    "xlm-roberta": Family("encoder.layer", positions_after_padding=True),
    "gpt2": Family("h", causal=True),
    "llama": Family("layers", causal=True, norms=("LlamaRMSNorm",)),
}


def family_of(model_type: str) -> Family:
    """The row of a model type; raises `InputError` naming the known ones."""
    try:
        return FAMILIES[model_type]
    except KeyError:
        raise InputError(f"model: type {model_type} is not supported; known types: {', '.join(FAMILIES)}") from None
