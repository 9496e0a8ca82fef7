"""Perturbation curves averaged over examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_Z = 1.96  # half-width of a 95 % interval in standard errors


@dataclass(frozen=True)
class MeanCurve:
    """Mean probability of the explained target at each level, the intact input (level 0) first. Arrays are [K + 1]."""

    method: str
    curve: str
    operator: str
    levels: NDArray[np.float64]  # mean fraction of the perturbable tokens
    mean: NDArray[np.float64]
    half: NDArray[np.float64]  # half-width of the 95 % interval of the mean (normal approximation)
    n: int


def mean_curves(curves: pa.Table) -> list[MeanCurve]:
    """One mean per (method, curve family) of the run table `curves`, in order of appearance."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in curves.to_pylist():
        groups.setdefault((row["method"], row["curve"], row["operator"]), []).append(row)
    return [_mean(*key, rows) for key, rows in groups.items()]


def _mean(method: str, curve: str, operator: str, rows: list[Mapping[str, Any]]) -> MeanCurve:
    """Examples with fewer levels than the others do not count at the levels they lack."""
    steps = max(len(row["levels"]) for row in rows)
    levels = np.stack([_padded([0.0, *row["levels"]], steps + 1) for row in rows])
    values = np.stack([_padded(_probabilities(row), steps + 1) for row in rows])
    counts, mean = (~np.isnan(values)).sum(axis=0), np.nanmean(values, axis=0)
    variance = np.nansum((values - mean) ** 2, axis=0) / np.maximum(counts - 1, 1)
    half = _Z * np.sqrt(variance / np.maximum(counts, 1))
    return MeanCurve(method, curve, operator, np.nanmean(levels, axis=0), mean, half, len(rows))


def _probabilities(row: Mapping[str, Any]) -> list[float]:
    """Level 0 and the others; of start and end the mean."""
    seeds = len(row["intact_probability"])
    values = np.array([*row["intact_probability"], *row["probabilities"]], dtype=np.float64)
    return list(values.reshape(-1, seeds).mean(axis=1))


def _padded(values: list[float], length: int) -> NDArray[np.float64]:
    return np.array(values + [np.nan] * (length - len(values)), dtype=np.float64)
