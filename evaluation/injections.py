"""What an injection did: every arm against every other on the same examples, and over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from attribution.errors import InputError
from evaluation.statistics.comparisons import Comparisons, compare_methods
from evaluation.statistics.moments import Floats
from evaluation.statistics.values import ValueTable


@dataclass(frozen=True)
class ArmComparison:
    """`mean` and `spread` [K, M]: of K metrics in M arms, over seeds; the spread is their standard deviation.

    `pairs`: paired differences on the examples, of each arm's mean over its seeds. They say how sure one is of these
    trained models on other examples; `spread` says how much other seeds of the training change. NaN for one seed.
    """

    arms: tuple[str, ...]
    metrics: tuple[str, ...]
    seeds: int
    mean: Floats
    spread: Floats
    pairs: Comparisons


def compare_arms(
    values: Mapping[str, ArrayLike], items: Sequence[str], higher_is_better: Mapping[str, bool], *, samples: int = 2000
) -> ArmComparison:
    """Compare arms by their values [S, K, n]: S seeds, K metrics in the order of `higher_is_better`, n examples."""
    arrays = {arm: np.asarray(each, dtype=np.float64) for arm, each in values.items()}
    shapes = {arm: each.shape for arm, each in arrays.items()}
    if len(set(shapes.values())) != 1 or next(iter(shapes.values()))[1:] != (len(higher_is_better), len(items)):
        raise InputError(
            f"arms: values must be seeds x {len(higher_is_better)} metrics x {len(items)} examples: {shapes}"
        )
    stacked = np.stack(list(arrays.values()))  # [M, S, K, n]
    table = ValueTable.of(items, list(arrays), higher_is_better, stacked.mean(1).transpose(1, 2, 0))
    of_seeds = np.nanmean(stacked, 3)  # some metrics are undefined for some examples
    seeds = stacked.shape[1]
    spread = of_seeds.std(1, ddof=1) if seeds > 1 else np.full(of_seeds[:, 0].shape, np.nan)
    pairs = compare_methods(table, samples=samples)
    return ArmComparison(tuple(arrays), tuple(higher_is_better), seeds, of_seeds.mean(1).T, spread.T, pairs)
