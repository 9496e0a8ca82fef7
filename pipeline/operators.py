"""Operators of runs by name, and metrics that are of another operator than the run's: `aopc@delete`."""

from __future__ import annotations

OPERATORS = (
    *("mask", "pad", "unk", "delete"),
    *("attention_mask_out", "zero_embedding", "mean_embedding", "mlm_resample"),
)


def under(metric: str, operator: str) -> str:
    """The name of a metric under another operator."""
    return f"{metric}@{operator}"


def other_operator(metric: str) -> str | None:
    """The other operator that a metric is of; None of the run's own."""
    at = metric.partition("@")[2]
    return at if at in OPERATORS else None
