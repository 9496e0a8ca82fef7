"""What explanations are worth: perturbation curves, metrics, and statistics over examples."""

from evaluation.curves import (
    CurveRequest,
    Curves,
    perturbation_curves,
    perturbation_curves_many,
    run_curves,
)
from evaluation.faithfulness import CURVES, CurveFamily
from evaluation.levels import ERASER_LEVELS, TENTHS, paper_counts
from evaluation.metric import METRICS, Metric, evaluate
from evaluation.plausibility import AnswerRecall, answer_recall
from evaluation.statistics import Interval, bootstrap_columns, holm, mean_interval, paired_difference

__all__ = [
    "CURVES",
    "ERASER_LEVELS",
    "METRICS",
    "TENTHS",
    "AnswerRecall",
    "CurveFamily",
    "CurveRequest",
    "Curves",
    "Interval",
    "Metric",
    "answer_recall",
    "bootstrap_columns",
    "evaluate",
    "holm",
    "mean_interval",
    "paired_difference",
    "paper_counts",
    "perturbation_curves",
    "perturbation_curves_many",
    "run_curves",
]
