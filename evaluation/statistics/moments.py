"""Columns of per-example values: weighted means, their standard errors and their skewness, all in closed form."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Moments(NamedTuple):
    """Of each column [C]: mean, its standard error (NaN for fewer than two values), jackknife acceleration, values."""

    mean: Floats
    error: Floats
    acceleration: Floats
    n: Ints


def moments(values: Floats, weights: Floats) -> Moments:
    """Of `values` [n, C], of which those of weight 0 are left out; the mean is sum(w v) / sum(w).

    The error is that of the linearised ratio, s / sqrt(n) where weights are equal. The acceleration is that of Efron
    1987: the skewness of the mean under leaving out one example, over 6.
    """
    counted = weights > 0
    n, total = counted.sum(0), weights.sum(0)
    least = np.where(counted, values, np.inf).min(0, initial=np.inf)  # from which equal values differ by exactly 0
    above = np.where(counted, values - np.where(n > 0, least, 0.0), 0.0)
    rise = _over((above * weights).sum(0), total)
    mean = least + rise
    residual = np.where(counted, above - rise, 0.0) * weights
    error = np.sqrt(_over((residual**2).sum(0) * n, n - 1)) / np.where(total > 0, total, 1.0)
    influence = np.divide(residual, total - weights, out=np.zeros_like(residual), where=counted & (total > weights))
    influence = np.where(counted, influence - _over(influence.sum(0), n), 0.0)
    square = (influence**2).sum(0)
    cube = (influence**3).sum(0)
    acceleration = np.divide(cube, 6 * square**1.5, out=np.zeros_like(cube), where=square > 0)
    return Moments(mean, error, acceleration, n)


def t_statistic(difference: Floats, error: Floats) -> Floats:
    """Difference over standard error: 0 for no difference at all, infinite for one without any spread."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(difference == 0, np.where(np.isnan(error), np.nan, 0.0), difference / error)


def _over(numerator: Floats, denominator: Floats | Ints) -> Floats:
    """Quotients, NaN where the denominator is not positive."""
    out = np.full(numerator.shape, np.nan)
    quotients: Floats = np.divide(numerator, denominator, out=out, where=np.asarray(denominator) > 0)
    return quotients
