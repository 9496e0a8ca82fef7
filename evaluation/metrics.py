"""Every metric; importing this module fills the table."""

from evaluation import correlations, decisions, faithfulness, plausibility
from evaluation.faithfulness import CURVES
from evaluation.metric import METRICS, evaluate, find_metric

__all__ = ["CURVES", "METRICS", "correlations", "decisions", "evaluate", "faithfulness", "find_metric", "plausibility"]
