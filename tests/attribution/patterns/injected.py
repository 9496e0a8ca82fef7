from __future__ import annotations

import torch

from attribution.patterns import PatternFile

PREVIOUS = {"pred": {"offset": -1}, "mode": "fix"}
REPEATED = {"pred": {"same_token": {}}, "mode": "mask"}


def injected(patterns, heads=None, **inject):
    """A pattern file that puts patterns into heads: by number, or each in turn in every layer."""
    assign = {"strategy": "map", "heads": heads} if heads else {"strategy": "per_layer_cycle", "order": list(patterns)}
    return PatternFile.read({"schema": 1, "patterns": patterns, "inject": {"assign": assign, **inject}})


def logits(model, texts):
    with torch.no_grad():
        return model(**texts).logits


def attentions(model, texts):
    """L x [B, H, N, N], by what the model itself returns."""
    with torch.no_grad():
        return model(**texts, output_attentions=True).attentions
