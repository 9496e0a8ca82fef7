"""Tables of values that were drawn, for tests of statistics."""

from __future__ import annotations

import numpy as np

from evaluation.statistics import ValueTable


def table_of(values, higher=True, weights=None, methods=None, metrics=None):
    """Of values [n, M], or [K, n, M]."""
    values = np.asarray(values, dtype=float)
    values = values[None] if values.ndim == 2 else values
    k, n, m = values.shape
    items = [f"item{i:06d}" for i in range(n)]
    metrics = metrics or [f"k{i}" for i in range(k)]
    return ValueTable.of(items, methods or [f"m{i}" for i in range(m)], dict.fromkeys(metrics, higher), values, weights)
