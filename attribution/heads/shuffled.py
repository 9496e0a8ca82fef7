"""A control for syntactic heads: the same sentences with trees that are not theirs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from attribution.heads.alignment import Sentence


def shuffled_trees(treebank: Sequence[Sentence], seed: int = 0) -> list[Sentence]:
    """Each sentence with the tree of another one of as many words, in the order of the treebank.

    Offsets, relations and their baselines stay those of the trees, so that a head that goes by position scores as
    before, and one that goes by syntax no longer. Sentences whose length no other one has are left out.
    """
    lengths = torch.tensor([len(sentence[1]) for sentence in treebank])
    order = torch.randperm(len(treebank), generator=torch.Generator().manual_seed(seed))
    giver: dict[int, int] = {}
    for length in sorted(set(lengths.tolist())):
        alike = order[lengths[order] == length].tolist()
        if len(alike) > 1:
            giver |= dict(zip(alike, [*alike[1:], alike[0]], strict=True))
    return [(*treebank[taker][:2], *treebank[giver[taker]][2:]) for taker in sorted(giver)]
