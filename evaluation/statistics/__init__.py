"""Statistics over examples that decide: intervals, comparisons of methods, ranks, power, stopping, costs, slices."""

from evaluation.statistics.bootstrap import bootstrap_columns
from evaluation.statistics.comparisons import Comparisons, Difference, compare_methods
from evaluation.statistics.controls import Lift, lifts
from evaluation.statistics.cost import CostPoint, best_within, cost_points, forward_equivalents
from evaluation.statistics.intervals import Interval, mean_interval, mean_intervals, paired_difference
from evaluation.statistics.operators import OperatorAgreement, operator_agreement
from evaluation.statistics.p_values import anytime_boundary, anytime_interval, anytime_test, holm, t_test
from evaluation.statistics.power import detectable_difference, examples_needed
from evaluation.statistics.ranks import (
    CriticalDifference,
    Rank,
    WinMatrix,
    critical_difference_across,
    critical_difference_within,
    rank_intervals,
    win_matrix,
    wins_across,
)
from evaluation.statistics.sequential import drawn_order, look_sizes, reason_to_stop, until_decided
from evaluation.statistics.slices import ExampleFacts, SliceFinding, slice_findings, standard_slices, worst_slice
from evaluation.statistics.values import ValueTable

__all__ = [
    "Comparisons",
    "CostPoint",
    "CriticalDifference",
    "Difference",
    "ExampleFacts",
    "Interval",
    "Lift",
    "OperatorAgreement",
    "Rank",
    "SliceFinding",
    "ValueTable",
    "WinMatrix",
    "anytime_boundary",
    "anytime_interval",
    "anytime_test",
    "best_within",
    "bootstrap_columns",
    "compare_methods",
    "cost_points",
    "critical_difference_across",
    "critical_difference_within",
    "detectable_difference",
    "drawn_order",
    "examples_needed",
    "forward_equivalents",
    "holm",
    "lifts",
    "look_sizes",
    "mean_interval",
    "mean_intervals",
    "operator_agreement",
    "paired_difference",
    "rank_intervals",
    "reason_to_stop",
    "slice_findings",
    "standard_slices",
    "t_test",
    "until_decided",
    "win_matrix",
    "wins_across",
    "worst_slice",
]
