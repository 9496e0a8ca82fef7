"""The examples on which explanations differ most: by the order in which methods put the tokens of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata  # type: ignore[import-untyped]

from evaluation.association import Floats

SHORTEST = 5  # tokens below which orders agree or differ by chance


@dataclass(frozen=True)
class Disagreement:
    """An example, the mean Spearman correlation of every two of its explanations, and the two that agree least."""

    item: str
    agreement: float
    first: str
    second: str
    correlation: float  # of these two


def rank_correlations(scores: Floats) -> Floats:
    """Spearman correlation of every two of M explanations [M, n]: [M, M]; NaN where one is constant."""
    ranks = rankdata(scores, axis=1) - (scores.shape[1] + 1) / 2
    size = np.sqrt((ranks**2).sum(1))
    unit = np.divide(ranks, size[:, None], out=np.full_like(ranks, np.nan), where=size[:, None] > 0)
    found: Floats = np.clip(unit @ unit.T, -1, 1)
    return found


def disagreements(
    scores: Mapping[str, Mapping[str, Floats]], tokens: Mapping[str, NDArray[np.bool_]], *, shortest: int = SHORTEST
) -> list[Disagreement]:
    """Examples by rising agreement of {method: {item: scores [n]}} on the tokens [n] of each.

    Left out are examples with fewer tokens than `shortest`, and from an example methods without finite scores of it.
    """
    found = [
        each
        for item, ranked in tokens.items()
        if ranked.sum() >= shortest and (each := _disagreement(item, ranked, scores)) is not None
    ]
    return sorted(found, key=lambda each: (round(each.agreement, 9), each.item))


def _disagreement(
    item: str, ranked: NDArray[np.bool_], scores: Mapping[str, Mapping[str, Floats]]
) -> Disagreement | None:
    """None where no two explanations can be compared."""
    own = dict(_complete(item, ranked, scores))
    if len(own) < 2:
        return None
    names = list(own)
    upper = np.triu_indices(len(names), 1)
    pairs = rank_correlations(np.stack(list(own.values())))[upper]
    if np.isnan(pairs).all():
        return None
    least = int(np.nanargmin(pairs))
    first, second = names[upper[0][least]], names[upper[1][least]]
    return Disagreement(item, float(np.nanmean(pairs)), first, second, float(pairs[least]))


def _complete(
    item: str, ranked: NDArray[np.bool_], scores: Mapping[str, Mapping[str, Floats]]
) -> Iterator[tuple[str, Floats]]:
    for method, of_item in scores.items():
        values = of_item.get(item)
        if values is not None and len(values) == len(ranked) and np.isfinite(values[ranked]).all():
            yield method, values[ranked]


def spread_out(found: Sequence[Disagreement], number: int) -> list[Disagreement]:
    """The first `number`, no two methods more often opposed than the number of such pairs demands.

    Two methods that never agree would otherwise be all that is seen.
    """
    chosen: list[Disagreement] = []
    waiting = list(found)
    while waiting and len(chosen) < number:
        seen: set[tuple[str, str]] = set()
        rest = []
        for each in waiting:
            if (each.first, each.second) in seen or len(chosen) == number:
                rest.append(each)
            else:
                seen.add((each.first, each.second))
                chosen.append(each)
        waiting = rest
    return chosen
