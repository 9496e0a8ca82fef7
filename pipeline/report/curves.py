"""Perturbation curves averaged over examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from evaluation import CURVES

Floats = NDArray[np.float64]
Z_95 = 1.96  # half-width of a 95 % interval in standard errors


@dataclass(frozen=True)
class MeanCurve:
    """Mean probability of the explained target at each level and of the intact input. Arrays are [K + 1].

    The intact input stands where it belongs: before the first token removed, after the last token kept.
    """

    method: str
    curve: str
    operator: str
    levels: Floats  # mean fraction of the perturbable tokens
    mean: Floats
    half: Floats  # half-width of the 95 % interval of the mean (normal approximation)
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
    family = CURVES.get(curve)
    keeps = family is not None and family.keep
    intact = np.array([_probabilities(row["intact_probability"], row) for row in rows])
    probabilities = np.stack([_padded(_probabilities(row["probabilities"], row), steps) for row in rows])
    shares = np.stack([_padded(row["levels"], steps) for row in rows])
    if family is None or float(keeps) not in (family.levels or ()):  # else it is among the levels
        probabilities = _with_intact(probabilities, intact, keeps)
        shares = _with_intact(shares, np.full_like(intact, float(keeps)), keeps)
    counts, mean = (~np.isnan(probabilities)).sum(axis=0), np.nanmean(probabilities, axis=0)
    variance = np.nansum((probabilities - mean) ** 2, axis=0) / np.maximum(counts - 1, 1)
    half = Z_95 * np.sqrt(variance / np.maximum(counts, 1))
    return MeanCurve(method, curve, operator, np.nanmean(shares, axis=0), mean, half, len(rows))


def _with_intact(steps: Floats, intact: Floats, keeps: bool) -> Floats:
    return np.concatenate([steps, intact] if keeps else [intact, steps], axis=1)


def _probabilities(values: list[float], row: Mapping[str, Any]) -> list[float]:
    """By level; of start and end the mean."""
    return list(np.reshape(values, (-1, len(row["intact_probability"]))).mean(axis=1))


def _padded(values: list[float], length: int) -> Floats:
    return np.array(values + [np.nan] * (length - len(values)), dtype=np.float64)
