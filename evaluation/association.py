"""How two lists of numbers go together. NaN where that is undefined: fewer than two numbers, or one list constant.

Sums run over the numbers of one example alone, never over the padding of a batch, so that a value does not depend on
the examples it is computed with.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata  # type: ignore[import-untyped]

Floats = NDArray[np.float64]


def pearson(x: Floats, y: Floats) -> float:
    """Product-moment correlation of x and y, [n]."""
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    x, y = x - x.mean(), y - y.mean()
    x, y = x / np.abs(x).max(), y / np.abs(y).max()  # squares of tiny numbers would be 0
    return float(np.clip((x * y).sum() / math.sqrt((x * x).sum() * (y * y).sum()), -1, 1))


def spearman(x: Floats, y: Floats) -> float:
    """Correlation of the ranks; ties share their mean rank."""
    return pearson(rankdata(x), rankdata(y)) if len(x) > 1 else math.nan


def kendall(x: Floats, y: Floats) -> float:
    """Kendall's tau-b: concordant less discordant pairs over the geometric mean of the pairs without ties."""
    i, j = np.triu_indices(len(x), 1)
    first, second = np.sign(x[i] - x[j]), np.sign(y[i] - y[j])
    untied = math.sqrt(np.count_nonzero(first) * np.count_nonzero(second))
    return float((first * second).sum() / untied) if untied else math.nan


ASSOCIATIONS: dict[str, Callable[[Floats, Floats], float]] = {
    "pearson": pearson,
    "spearman": spearman,
    "kendall": kendall,
}
