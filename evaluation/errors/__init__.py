"""Why a classifier errs: which classes it confuses, by which words, and which of the labels are likely to be wrong."""

from evaluation.errors.confusions import Confusion, confusions
from evaluation.errors.corrections import (
    NOT_RUN,
    Corrected,
    Decisions,
    WordRemovals,
    corrected,
    top_words,
)
from evaluation.errors.few import FEWEST, mean_of_errors, proportion
from evaluation.errors.labels import LabelDoubt, class_thresholds, likely_label_errors
from evaluation.errors.words import WordCause, WordCauses, score_shares, word_causes

__all__ = [
    "FEWEST",
    "NOT_RUN",
    "Confusion",
    "Corrected",
    "Decisions",
    "LabelDoubt",
    "WordCause",
    "WordCauses",
    "WordRemovals",
    "class_thresholds",
    "confusions",
    "corrected",
    "likely_label_errors",
    "mean_of_errors",
    "proportion",
    "score_shares",
    "top_words",
    "word_causes",
]
