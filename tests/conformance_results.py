"""What the conformance kit says of every registered method on every tiny model; each model is examined once."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from tiny_models import tiny_head, tiny_model

from attribution import METHODS
from attribution.conformance import Verdict, check_methods

LAYERS = 2
HEAD_MASK = torch.tensor([[1.0, 0, 0, 1], [0, 1, 1, 0]])
# What keeps methods quick where they take such a parameter; how good their scores get is no matter here.
# Positive parts of saliency may be nothing at all in a random model.
QUICK: dict[str, Any] = {
    "head_mask": HEAD_MASK, "n_samples": 4, "samples": 4, "n_steps": 4, "steps": 4, "saliency": "gradcam_signed",
}  # fmt: skip
IN_HALF = ("bert", "deberta", "gpt2", "qwen3")  # also compared with themselves in half precision


def spec(method: str) -> dict[str, Any]:
    """A method with parameters that keep it quick."""
    return {"method": method} | {name: QUICK[name] for name in METHODS[method].parameters if name in QUICK}


@cache
def verdicts(model: str) -> dict[str, Verdict]:
    """By method."""
    precisions = ("float32", *(("bfloat16", "float16") if model in IN_HALF else ()))
    specs, explained = {method: spec(method) for method in METHODS}, tiny_model(model, layers=LAYERS)
    return check_methods(specs, explained, lm_head=tiny_head(explained), precisions=precisions)
