"""Whether a ranking of heads would come out again: on other examples, with another seed, by another definition."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.stats import rankdata  # type: ignore[import-untyped]
from torch import Tensor

from attribution.errors import InputError
from evaluation.agreement import top_k_jaccard
from evaluation.association import Floats, kendall, spearman

if TYPE_CHECKING:
    from attribution.heads.importance import Importance

SPLITS = 20
TOP = 10


@dataclass(frozen=True)
class RankStability:
    """Agreement of pairs of rankings, [P] each; NaN where one of a pair is constant."""

    spearman: Floats
    kendall: Floats
    top_overlap: Floats  # Jaccard overlap of the heads on top

    def means(self) -> dict[str, float]:
        """Mean over pairs, by measure."""
        return {name: float(np.mean(values)) for name, values in vars(self).items()}


def rank_stability(scores: Sequence[Tensor], *, top: int = TOP) -> RankStability:
    """Agreement of every two of these scores [L, H], as of runs with different seeds."""
    return _of_pairs(combinations(scores, 2), top)


def split_half_stability(
    importance: Importance, *, splits: int = SPLITS, seed: int = 0, top: int = TOP
) -> RankStability:
    """Agreement of the scores of two random halves of the examples, `splits` times; no pass of the model is needed."""
    size = len(importance.units.values)
    if size < 4:
        raise InputError(f"importance of {size} examples cannot be halved; four or more are needed")
    generator = torch.Generator().manual_seed(seed)
    halves = torch.stack([_half(size, generator) for _ in range(splits)])
    first, second = importance.of(halves), importance.of(1 - halves)
    return _of_pairs(zip(first, second, strict=True), top)


def _half(size: int, generator: torch.Generator) -> Tensor:
    """[U] 1 for a random half, 0 for the other."""
    return torch.zeros(size, dtype=torch.float64).scatter(0, torch.randperm(size, generator=generator)[: size // 2], 1)


def _of_pairs(pairs: Iterable[tuple[Tensor, Tensor]], top: int) -> RankStability:
    flat = [(a.double().flatten().cpu().numpy(), b.double().flatten().cpu().numpy()) for a, b in pairs]
    if not flat:
        raise InputError("rankings: two or more are needed to compare")
    measures: list[Callable[[Floats, Floats], float]] = [spearman, kendall, lambda a, b: _top_overlap(a, b, top)]
    return RankStability(*(np.array([measure(a, b) for a, b in flat]) for measure in measures))


def _top_overlap(a: Floats, b: Floats, top: int) -> float:
    # By the scores as they are: a head below 0 does harm, however much.
    return top_k_jaccard(rankdata(a), rankdata(b), top)
