"""Statistics over examples that decide: intervals, comparisons of methods, ranks, power, stopping, slices."""

from evaluation.statistics.bootstrap import bootstrap_columns
from evaluation.statistics.comparisons import Comparisons, Difference, compare_methods
from evaluation.statistics.intervals import Interval, mean_interval, mean_intervals, paired_difference
from evaluation.statistics.p_values import holm
from evaluation.statistics.power import detectable_difference, examples_needed
from evaluation.statistics.values import ValueTable

__all__ = [
    "Comparisons",
    "Difference",
    "Interval",
    "ValueTable",
    "bootstrap_columns",
    "compare_methods",
    "detectable_difference",
    "examples_needed",
    "holm",
    "mean_interval",
    "mean_intervals",
    "paired_difference",
]
