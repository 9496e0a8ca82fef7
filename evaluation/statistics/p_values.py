"""P values of means: for a fixed number of examples, for any stopping time, and corrected for many tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr, stdtrit  # type: ignore[import-untyped]

from evaluation.statistics.moments import Floats, Ints, Moments

PLANNED = 500  # examples for which the anytime-valid boundary is narrowest


def holm(p_values: ArrayLike) -> Floats:
    """P values adjusted so that the chance of any false rejection among them is bounded (Holm 1979). NaN stays."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    factors = np.arange(len(order), 0, -1)
    adjusted = np.full_like(p, np.nan)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return adjusted


def t_test(t: Floats, n: Ints | Floats) -> Floats:
    """Two-sided P of Student's t from n examples, fixed beforehand; NaN for fewer than two.

    Where all examples agree exactly, t is infinite and says nothing of their number: then that of the sign test.
    """
    n = np.asarray(n, dtype=np.float64)
    with np.errstate(invalid="ignore", under="ignore"):
        p = np.where(np.isinf(t), 2.0 ** (1 - n), 2 * stdtr(np.maximum(n - 1, 1), -np.abs(t)))
    return np.where(n > 1, p, np.nan)


def anytime_test(t: Floats, n: Ints | Floats, planned: int = PLANNED) -> Floats:
    """Two-sided P that holds at whatever number of examples one looks or stops: 1 / e of the mixture t-test.

    e is the likelihood ratio of the t statistic under effects ~ N(0, g sd^2) against none, with the right Haar prior on
    the deviation (Rouder et al. 2009 eq. 1 before mixing over g; Wang & Ramdas 2025): a martingale for normal
    differences whatever their deviation, so that Ville's inequality bounds the chance that 1 / e is ever below alpha;
    for others in the limit (Waudby-Smith et al. 2024). Chosen over alpha spending because a budget of time fixes
    neither the number of looks nor of examples.
    """
    n = np.asarray(n, dtype=np.float64)
    growth, freedom = 1 + n * _prior(planned), np.maximum(n - 1, 1)
    with np.errstate(over="ignore", invalid="ignore"):
        square = t**2 / freedom
        log_e = n / 2 * (np.log1p(square) - np.log1p(square / growth)) - np.log(growth) / 2
    log_e = np.where(np.isinf(t), n * np.log(2) - np.log(n + 1), log_e)  # the sign test, mixed over all shares
    return np.where(n > 1, np.exp(-np.maximum(log_e, 0)), np.nan)


def t_boundary(n: Floats, alpha: float) -> Floats:
    """The |t| at which `t_test` is alpha."""
    boundary: Floats = -stdtrit(np.maximum(np.asarray(n, dtype=np.float64) - 1, 1), alpha / 2)
    return boundary


def anytime_boundary(n: Floats, alpha: float, planned: int = PLANNED) -> Floats:
    """The |t| at which `anytime_test` is alpha; infinite where n examples cannot get there."""
    n = np.asarray(n, dtype=np.float64)
    growth, freedom = 1 + n * _prior(planned), np.maximum(n - 1, 1)
    ratio = np.exp((np.log(growth) - 2 * np.log(alpha)) / np.maximum(n, 1))
    reached = ratio < growth
    square = np.divide(ratio - 1, 1 - ratio / growth, out=np.full(n.shape, np.inf), where=reached)
    boundary: Floats = np.sqrt(freedom * square)
    return boundary


def anytime_interval(of: Moments, confidence: float, planned: int = PLANNED) -> tuple[Floats, Floats]:
    """Ends of the means that `anytime_test` does not reject; infinite where so few examples reject none."""
    boundary = anytime_boundary(of.n.astype(np.float64), 1 - confidence, planned)
    half = np.multiply(boundary, of.error, out=np.zeros_like(boundary), where=~(of.error <= 0))
    return of.mean - half, of.mean + half


def _prior(planned: int) -> float:
    """Variance of the effect in squared deviations: the 95 % boundary is narrow at `planned`."""
    spread = -2 * np.log(0.05)
    return float((spread + np.log(spread + 1)) / planned)
