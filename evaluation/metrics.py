"""Every metric; importing this module fills the table."""

from evaluation import faithfulness, plausibility
from evaluation.metric import METRICS, evaluate, find_metric

__all__ = ["METRICS", "evaluate", "faithfulness", "find_metric", "plausibility"]
