"""How far two explanations of the same examples agree: every method with every other. No side is the right one.

Feature, rank, sign and signed rank agreement are those of Krishna et al. 2022, arXiv 2202.01602.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attribution.errors import InputError
from evaluation.association import Floats, kendall, spearman

Measure = Callable[[Floats, Floats, int], float]
PERSISTENCE = 0.9  # of rank-biased overlap: the weight of a depth in that of the one before


def _order(scores: Floats) -> Any:
    """Indexes by falling |score|, the earlier of equal ones first."""
    return np.argsort(-np.abs(scores), kind="stable")


def feature_agreement(a: Floats, b: Floats, k: int) -> float:
    """Share of the top k that are in the other's top k."""
    return len(set(_order(a)[:k]) & set(_order(b)[:k])) / min(k, len(a))


def top_k_jaccard(a: Floats, b: Floats, k: int) -> float:
    """Tokens in both top k over tokens in either."""
    first, second = set(_order(a)[:k]), set(_order(b)[:k])
    return len(first & second) / len(first | second)


def rank_agreement(a: Floats, b: Floats, k: int) -> float:
    """Share of the top k at the same place in both."""
    return float((_order(a)[:k] == _order(b)[:k]).mean())


def sign_agreement(a: Floats, b: Floats, k: int) -> float:
    """Share of the top k that are in the other's top k with the same sign."""
    both = set(_order(a)[:k]) & set(_order(b)[:k])
    return sum(bool(np.sign(a[i]) == np.sign(b[i])) for i in both) / min(k, len(a))


def signed_rank_agreement(a: Floats, b: Floats, k: int) -> float:
    """Share of the top k at the same place in both with the same sign."""
    first, second = _order(a)[:k], _order(b)[:k]
    return float(((first == second) & (np.sign(a[first]) == np.sign(b[first]))).mean())


def pairwise_rank_agreement(a: Floats, b: Floats, k: int) -> float:
    """Share of all pairs of tokens that both put in the same order by |score|; NaN of a single token."""
    if len(a) < 2:
        return math.nan
    i, j = np.triu_indices(len(a), 1)
    return float((np.sign(abs(a)[i] - abs(a)[j]) == np.sign(abs(b)[i] - abs(b)[j])).mean())


def rank_biased_overlap(a: Floats, b: Floats, k: int) -> float:
    """Overlap of the top d, the mean over depths d with falling weights (Webber et al. 2010); 1 for equal orders."""
    first, second, n = _order(a), _order(b), len(a)
    overlap = [len(set(first[:depth]) & set(second[:depth])) / depth for depth in range(1, n + 1)]
    weight = PERSISTENCE ** np.arange(n)
    return float((weight * overlap).sum() / weight.sum())


MEASURES: dict[str, Measure] = {
    "spearman": lambda a, b, k: spearman(a, b),
    "kendall": lambda a, b, k: kendall(a, b),
    "top_k_jaccard": top_k_jaccard,
    "rank_biased_overlap": rank_biased_overlap,
    "feature_agreement": feature_agreement,
    "rank_agreement": rank_agreement,
    "sign_agreement": sign_agreement,
    "signed_rank_agreement": signed_rank_agreement,
    "pairwise_rank_agreement": pairwise_rank_agreement,
}
ALIASES = {
    "FA": "feature_agreement",
    "RA": "rank_agreement",
    "SA": "sign_agreement",
    "SRA": "signed_rank_agreement",
    "RC": "spearman",
    "PRA": "pairwise_rank_agreement",
}


def agreement(a: Tensor, b: Tensor, tokens: Tensor, *, measure: str = "spearman", k: int = 5) -> Tensor:
    """Agreement of scores a and b [B, N] on the tokens bool [B, N], float64 [B]; NaN where undefined."""
    name = ALIASES.get(measure, measure)
    if name not in MEASURES:
        raise InputError(f"measure={measure} is not a measure of agreement; choose one of {', '.join(MEASURES)}")
    columns = (each.cpu().numpy() for each in (a.double(), b.double(), tokens.bool()))
    found = []
    for first, second, ranked in zip(*columns, strict=True):
        own, other = first[ranked], second[ranked]
        whole = own.size > 0 and np.isfinite(own).all() and np.isfinite(other).all()
        found.append(MEASURES[name](own, other, k) if whole else math.nan)
    return torch.tensor(found, dtype=torch.float64)


def agreement_matrix(
    scores: Mapping[str, Tensor], tokens: Tensor, *, measure: str = "spearman", k: int = 5
) -> dict[tuple[str, str], Tensor]:
    """Agreement [B] of every two methods {label: scores [B, N]}, each pair once."""
    labels = list(scores)
    pairs = [(one, other) for place, one in enumerate(labels) for other in labels[place + 1 :]]
    return {(a, b): agreement(scores[a], scores[b], tokens, measure=measure, k=k) for a, b in pairs}
