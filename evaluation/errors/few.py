"""Means and proportions of errors, of which there may be too few for an interval."""

from __future__ import annotations

import math

import torch
from numpy.typing import ArrayLike

from attribution.heads.intervals import wilson
from evaluation.statistics.intervals import Interval, mean_interval
from evaluation.statistics.slices import SMALLEST as FEWEST

__all__ = ["FEWEST", "mean_of_errors", "proportion"]


def mean_of_errors(values: ArrayLike, *, samples: int = 2000, confidence: float = 0.95, seed: int = 0) -> Interval:
    """A mean and its BCa bootstrap interval; of fewer than FEWEST defined values NaN for an interval."""
    found = mean_interval(values, samples=samples, confidence=confidence, seed=seed)
    return found if found.n >= FEWEST else found._replace(low=math.nan, high=math.nan)


def proportion(count: int, of: int) -> Interval:
    """A proportion and Wilson's 95 % interval; of nothing NaN. Unlike the bootstrap's it is not empty at 0 and 1."""
    if not of:
        return Interval(math.nan, math.nan, math.nan, 0, 0)
    value = torch.tensor(count / of, dtype=torch.float64)
    low, high = wilson(value, of).tolist()
    return Interval(count / of, low, high, of, 0)
