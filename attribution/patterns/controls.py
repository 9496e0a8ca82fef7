"""What an injection is compared with: random patterns, random heads, no patterns; and how sparse it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from attribution.errors import InputError
from attribution.patterns.assignment import assigned, required
from attribution.patterns.predicates import Random, evaluate
from attribution.patterns.rows import rows_of
from attribution.patterns.schema import MAPPED, Assignment, PatternFile, write_head
from attribution.patterns.tokens import Tokens


def random_patterns(file: PatternFile, seed: int) -> PatternFile:
    """The same file with random patterns in place of its own: every query keeps its number of keys.

    No two patterns, of one seed or of two, are drawn alike.
    """
    drawn = {
        name: replace(pattern, pred=Random(pattern.pred, seed * len(file.patterns) + at))
        for at, (name, pattern) in enumerate(file.patterns.items())
    }
    return replace(file, patterns=drawn)


def random_heads(file: PatternFile, n_layers: int, n_heads: int, seed: int) -> PatternFile:
    """The same patterns in other heads of the same layers, drawn by `seed` from all of a layer's `n_heads`."""
    generator = torch.Generator().manual_seed(seed)
    heads: dict[str, str] = {}
    for layer, own in enumerate(assigned(file, n_layers, n_heads)):
        drawn = torch.randperm(n_heads, generator=generator).tolist()
        heads |= {write_head((layer, drawn[at])): name for at, name in enumerate(own.values())}
    return replace(file, inject=replace(required(file), assign=Assignment(MAPPED, heads=heads)))


def without_patterns(file: PatternFile) -> PatternFile:
    """Projected attention of the same size in which no head has a pattern: what is gained by size alone."""
    inject = required(file)
    if inject.target != "pal":
        raise InputError("conf error: patterns: target=pal alone has a control without patterns; it adds weights.")
    return replace(file, inject=replace(inject, assign=Assignment(MAPPED, heads={})))


def arms(file: PatternFile, n_layers: int, n_heads: int, seed: int) -> dict[str, PatternFile | None]:
    """What is trained and measured side by side: the model as it is, the patterns, and the controls they have."""
    found: dict[str, PatternFile | None] = {
        "base": None,
        "patterns": file,
        "random_patterns": random_patterns(file, seed),
    }
    inject = required(file)
    if inject.target == "in_place":
        found["random_heads"] = random_heads(file, n_layers, n_heads, seed)
    if inject.target == "pal":
        found["without_patterns"] = without_patterns(file)
    return found


def sparsity(file: PatternFile, tokens: Tokens) -> Mapping[str, float]:
    """Of each pattern: the share of what queries see, 0 to 1, that its heads do not attend to. Rows without a key are
    counted as their policy has them.
    """
    held = evaluate([pattern.pred for pattern in file.patterns.values()], tokens).unbind(1)
    found = {}
    for (name, pattern), holds in zip(file.patterns.items(), held, strict=True):
        kept = rows_of(pattern, holds, tokens.visible, tokens.real).keys & tokens.visible
        found[name] = 1 - _share(kept, tokens.visible)
    return found


def _share(part: Tensor, whole: Tensor) -> float:
    return float(part.sum()) / float(whole.sum())
