"""How many examples a difference takes to be seen, and which difference a number of examples shows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri  # type: ignore[import-untyped]

from evaluation.statistics.moments import Floats
from evaluation.statistics.p_values import t_boundary

POWER = 0.8
MOST = 2.0**30  # beyond this many examples a difference counts as none
Boundary = Callable[[Floats, float], Floats]


def examples_needed(
    difference: ArrayLike,
    deviation: ArrayLike,
    *,
    alpha: float = 0.05,
    power: float = POWER,
    boundary: Boundary = t_boundary,
) -> Floats:
    """The least number of examples on which a true difference is found with that power; infinite for none.

    `deviation` is the standard deviation of the paired differences; alpha is what the smallest P value is held against
    (divided by the number of comparisons). The statistic is taken to be normal about difference * sqrt(n) / deviation.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        effect = np.abs(np.asarray(difference, dtype=np.float64)) / np.asarray(deviation, dtype=np.float64)
    low, high = np.full(effect.shape, 1.0), np.full(effect.shape, MOST)
    for _ in range(32):  # to less than one example
        middle = np.sqrt(low * high) if np.any(high > 2 * low) else (low + high) / 2
        enough = np.sqrt(middle) * effect >= boundary(middle, alpha) + ndtri(power)
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    unknown = np.isnan(effect)
    return np.where(unknown, np.nan, np.where(high >= MOST, np.inf, np.ceil(high)))


def detectable_difference(
    deviation: ArrayLike,
    n: ArrayLike,
    *,
    alpha: float = 0.05,
    power: float = POWER,
    boundary: Boundary = t_boundary,
) -> Floats:
    """The true difference that n examples show with that power."""
    n = np.asarray(n, dtype=np.float64)
    detectable: Floats = np.asarray(deviation, dtype=np.float64) * (boundary(n, alpha) + ndtri(power)) / np.sqrt(n)
    return detectable
