"""Every metric; importing this module fills the table."""

from evaluation import (
    activation,
    complexity,
    context_mixing,
    correlations,
    decisions,
    distributions,
    faithfulness,
    plausibility,
    pointing,
    relative_stability,
    stability,
)
from evaluation.faithfulness import CURVES
from evaluation.metric import METRICS, evaluate, find_metric
from evaluation.plugins import load_plugins

load_plugins()

__all__ = [
    "CURVES",
    "METRICS",
    "activation",
    "complexity",
    "context_mixing",
    "correlations",
    "decisions",
    "distributions",
    "evaluate",
    "faithfulness",
    "find_metric",
    "plausibility",
    "pointing",
    "relative_stability",
    "stability",
]
