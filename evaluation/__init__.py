"""What explanations are worth: perturbation curves, metrics, and statistics over examples."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluation.context_mixing import (
        average_precision,
        blank_out_agreement,
        chance_average_precision,
        chance_dot_product,
        dot_product,
    )
    from evaluation.curves import (
        CurveRequest,
        Curves,
        perturbation_curves,
        perturbation_curves_many,
        run_curves,
    )
    from evaluation.faithfulness import ERASER_LEVELS, CurveFamily
    from evaluation.levels import TENTHS, paper_counts
    from evaluation.metric import Metric
    from evaluation.metrics import CURVES, METRICS, evaluate
    from evaluation.plausibility import AnswerRecall, answer_recall
    from evaluation.probing import OnlineCode, ProbeRecipe, online_code, probe_code
    from evaluation.removals import REMOVALS, RemovalRequest, Removals, removal_effects
    from evaluation.statistics import Interval, bootstrap_columns, holm, mean_interval, paired_difference
    from evaluation.suite import Evaluation, evaluate_all

__all__ = [
    "CURVES",
    "ERASER_LEVELS",
    "METRICS",
    "REMOVALS",
    "TENTHS",
    "AnswerRecall",
    "CurveFamily",
    "CurveRequest",
    "Curves",
    "Evaluation",
    "Interval",
    "Metric",
    "OnlineCode",
    "ProbeRecipe",
    "RemovalRequest",
    "Removals",
    "answer_recall",
    "average_precision",
    "blank_out_agreement",
    "bootstrap_columns",
    "chance_average_precision",
    "chance_dot_product",
    "dot_product",
    "evaluate",
    "evaluate_all",
    "holm",
    "mean_interval",
    "online_code",
    "paired_difference",
    "paper_counts",
    "perturbation_curves",
    "perturbation_curves_many",
    "probe_code",
    "removal_effects",
    "run_curves",
]

# Loaded when asked for: torch takes seconds, and what a metric is can be told without it.
_HOMES = {
    "CURVES": "metrics",
    "ERASER_LEVELS": "faithfulness",
    "METRICS": "metrics",
    "REMOVALS": "removals",
    "TENTHS": "levels",
    "AnswerRecall": "plausibility",
    "CurveFamily": "faithfulness",
    "CurveRequest": "curves",
    "Curves": "curves",
    "Evaluation": "suite",
    "Interval": "statistics",
    "Metric": "metric",
    "RemovalRequest": "removals",
    "Removals": "removals",
    "OnlineCode": "probing",
    "ProbeRecipe": "probing",
    "answer_recall": "plausibility",
    "average_precision": "context_mixing",
    "blank_out_agreement": "context_mixing",
    "chance_average_precision": "context_mixing",
    "chance_dot_product": "context_mixing",
    "dot_product": "context_mixing",
    "online_code": "probing",
    "probe_code": "probing",
    "bootstrap_columns": "statistics",
    "evaluate": "metrics",
    "evaluate_all": "suite",
    "holm": "statistics",
    "mean_interval": "statistics",
    "paired_difference": "statistics",
    "paper_counts": "levels",
    "perturbation_curves": "curves",
    "perturbation_curves_many": "curves",
    "removal_effects": "removals",
    "run_curves": "curves",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'evaluation' has no attribute {name!r}")
    return getattr(import_module(f"evaluation.{_HOMES[name]}"), name)
