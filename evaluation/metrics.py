"""Every metric; importing this module fills the table."""

from evaluation import context_mixing, faithfulness, plausibility
from evaluation.metric import METRICS, evaluate, find_metric

__all__ = ["METRICS", "context_mixing", "evaluate", "faithfulness", "find_metric", "plausibility"]
