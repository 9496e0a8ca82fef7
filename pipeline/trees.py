"""Dependency trees of texts as a table has them, over the tokens of one model, and as patterns read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from attribution.patterns import Arcs, Tokens, Vocabulary, evaluate
from attribution.patterns.blocks import Predicate
from pipeline.microbatch import padded

Tree = Mapping[str, Any]  # a row of TREES


def arcs_of(trees: Sequence[Tree], length: int) -> Arcs:
    """The trees of some texts, padded to one length."""
    names = relations_of(trees)
    index = {name: at for at, name in enumerate(names)}
    words, governors, relations = (
        torch.from_numpy(padded(rows, length, -1))
        for rows in (
            [tree["word_ids"] for tree in trees],
            [tree["governors"] for tree in trees],
            [[index.get(name, -1) for name in tree["relations"]] for tree in trees],
        )
    )
    return Arcs(words, governors, relations, names)


def require_known(predicates: Sequence[Predicate], vocabulary: Vocabulary, relations: Sequence[str]) -> None:
    """InputError for predicates that ask for trees, where no text has any: `relations` are those of the texts."""
    ids = torch.zeros(1, 2, dtype=torch.long)
    arcs = Arcs(ids, ids, ids, relations) if relations else None
    evaluate(predicates, Tokens(ids, ids == 0, vocabulary, arcs=arcs))


def relations_of(trees: Sequence[Tree]) -> tuple[str, ...]:
    """Names of the relations that occur, sorted."""
    return tuple(sorted({name for tree in trees for name in tree["relations"] if name is not None}))
