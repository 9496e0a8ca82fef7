"""Which explanation methods say the same: mean rank correlations of every two, and the tree that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage  # type: ignore[import-untyped]
from scipy.spatial.distance import squareform  # type: ignore[import-untyped]

from evaluation.association import Floats
from evaluation.disagreement import SHORTEST, rank_correlations


@dataclass(frozen=True)
class Likeness:
    """Methods in the order of the tree, so that those that agree stand together.

    correlations: [M, M] Spearman's, the mean over texts. merges: [M - 1, 4] as SciPy's `linkage` has them, of methods
    in this order, at the height 1 - mean correlation (average linkage). n: texts that were compared.
    """

    methods: tuple[str, ...]
    correlations: Floats
    merges: Floats
    n: int


def likeness(
    scores: Mapping[str, Mapping[str, Floats]], tokens: Mapping[str, NDArray[np.bool_]], *, shortest: int = SHORTEST
) -> Likeness | None:
    """Of {method: {item: scores [n]}} on the tokens [n] of each item; None of fewer than two methods.

    Texts of fewer tokens than `shortest` are left out, and methods that can be compared with another on no text.
    """
    items = [item for item, ranked in tokens.items() if ranked.sum() >= shortest]
    if len(scores) < 2 or not items:
        return None
    every = np.stack([_of_text(list(scores.values()), item, tokens[item]) for item in items])
    compared = np.isfinite(every).sum(0)
    mean = np.where(compared > 0, np.nansum(every, 0) / np.maximum(compared, 1), np.nan)
    np.fill_diagonal(mean, 1.0)
    kept = _comparable(mean)
    if len(kept) < 2:
        return None
    own = mean[np.ix_(kept, kept)]
    order = leaves_list(_tree(own))
    beside = own[np.ix_(order, order)]
    names = list(scores)
    return Likeness(tuple(names[kept[place]] for place in order), beside, _tree(beside), len(items))


def _of_text(scores: Sequence[Mapping[str, Floats]], item: str, ranked: NDArray[np.bool_]) -> Floats:
    """Correlations [M, M] on one text; NaN for methods without finite scores of it, or with constant ones."""
    own = np.zeros((len(scores), int(ranked.sum())))
    for row, of_item in zip(own, scores, strict=True):
        values = of_item.get(item)
        if values is not None and len(values) == len(ranked) and np.isfinite(values[ranked]).all():
            row[:] = values[ranked]
    return rank_correlations(own)


def _comparable(mean: Floats) -> list[int]:
    """Places of methods that have a correlation with every other one; those with the fewest are left out first."""
    kept = list(range(len(mean)))
    while (missing := np.isnan(mean[np.ix_(kept, kept)]).sum(1)).any():
        kept.pop(int(missing.argmax()))
    return kept


def _tree(correlations: Floats) -> Floats:
    distance = np.clip(1 - (correlations + correlations.T) / 2, 0, 2)
    np.fill_diagonal(distance, 0)
    found: Floats = linkage(squareform(distance, checks=False), "average", optimal_ordering=True)
    return found
