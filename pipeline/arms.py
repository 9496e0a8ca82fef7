"""Models with patterns beside their controls, as rows of the table of arms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from evaluation.injections import ArmComparison, compare_arms
from evaluation.statistics.moments import Floats
from pipeline.schemas import ARMS

BASE, PATTERNS = "base", "patterns"

Arm = tuple[str, int]  # its name, and the seed of what is drawn in it


def compared(
    values: Mapping[Arm, Floats], items: Sequence[str], higher_is_better: Mapping[str, bool], samples: int
) -> ArmComparison:
    """Arms by what each reached with each seed: values [K, n] of K metrics on n examples."""
    by_arm: dict[str, list[Floats]] = {}
    for (arm, _), each in values.items():
        by_arm.setdefault(arm, []).append(each)
    stacked = {arm: np.stack(each) for arm, each in by_arm.items()}
    return compare_arms(stacked, items, higher_is_better, samples=samples)


def arms_table(study: str, found: ArmComparison) -> pa.Table:
    """Every arm by itself, against the base, and the patterns against every control."""
    rows = [row for metric in found.metrics for arm in found.arms for row in _rows(found, metric, arm)]
    return pa.Table.from_pylist([{"study": study, "seeds": found.seeds, **row} for row in rows], schema=ARMS)


def _rows(found: ArmComparison, metric: str, arm: str) -> Iterator[dict[str, Any]]:
    k, m = found.metrics.index(metric), found.arms.index(arm)
    spread = float(found.spread[k, m])
    about = {"arm": arm, "metric": metric}
    yield {
        **about, "value": float(found.mean[k, m]), "spread": None if math.isnan(spread) else spread,
        "n": found.pairs.n_examples,
    }  # fmt: skip
    for rival in found.arms:
        if arm != rival and (rival == BASE or arm == PATTERNS):
            pair = found.pairs.difference(arm, rival, metric)
            yield {**about, "against": rival, "value": pair.value, "low": pair.low, "high": pair.high, "n": pair.n}
