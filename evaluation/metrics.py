"""Every metric; importing this module fills the table."""

from evaluation import activation, context_mixing, faithfulness, plausibility
from evaluation.faithfulness import CURVES
from evaluation.metric import METRICS, evaluate, find_metric

__all__ = [
    "CURVES",
    "METRICS",
    "activation",
    "context_mixing",
    "evaluate",
    "faithfulness",
    "find_metric",
    "plausibility",
]
