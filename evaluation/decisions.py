"""Decisions that flip, and answers that change, as tokens are taken away. Importing this needs no torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attribution.errors import InputError
from evaluation.faithfulness import EMPTY, UNIT, curve_metric, target_values

if TYPE_CHECKING:
    from torch import Tensor

    from evaluation.curves import Curves

FLIPS = f"{EMPTY}; where the model does not decide for what is explained"
QA = ("question_answering",)
ANSWERS = f"{EMPTY}; where the model gives no answer"


def decided(curves: Curves) -> tuple[Tensor, Tensor]:
    """Whether the model decides for what is explained: bool [B, K], and [B] of the intact text."""
    if curves.predicted is None or curves.intact_predicted is None:
        raise InputError("metric: these curves were kept without the model's decisions; draw them anew")
    at, intact = curves.predicted, curves.intact_predicted
    target = curves.target if at.dim() == curves.target.dim() + 1 else curves.target[:, 0]
    held, held_intact = at == target[:, None], intact == target
    return (held.all(-1), held_intact.all(-1)) if at.dim() == 3 else (held, held_intact)


def first_flip(curves: Curves) -> Tensor:
    """Smallest fraction of tokens whose removal makes the model decide otherwise, 1 where none does: [B]."""
    held, intact = decided(curves)
    return _first(~held, curves).where(intact, math.nan)


def share_flipped(curves: Curves) -> Tensor:
    """Share of the levels at which the model decides otherwise, [B]."""
    held, intact = decided(curves)
    return (~held).double().mean(1).where(intact & _known(curves), math.nan)


def _first(flipped: Tensor, curves: Curves) -> Tensor:
    found = curves.levels.double().where(flipped, 1.0).amin(1)
    return found.where(_known(curves), math.nan)


def _known(curves: Curves) -> Tensor:
    return ~target_values(curves)[0].isnan().any(1)


def answer_overlap(curves: Curves) -> Tensor:
    """F1 of the tokens of the answer at each level and of the answer of the intact text, [B, K]; NaN: it has none."""
    if curves.predicted is None or curves.intact_predicted is None or curves.predicted.dim() != 3:
        raise InputError("metric: answers are those of question answering; these curves have none")
    (start, end), (first, last) = curves.predicted.unbind(-1), curves.intact_predicted[:, None].unbind(-1)
    common = (end.minimum(last) - start.maximum(first) + 1).clamp(min=0)
    sizes = (end - start + 1).clamp(min=0) + (last - first + 1).clamp(min=0)
    return (2.0 * common / sizes).where((last >= first) & _known(curves)[:, None], math.nan)


def answer_change(curves: Curves) -> Tensor:
    """Mean over the levels of 1 - F1 of the answers, [B]."""
    return (1 - answer_overlap(curves)).mean(1)


def first_answer_flip(curves: Curves) -> Tensor:
    """Smallest fraction of tokens whose removal leaves less than half of the answer (F1), 1 where none does: [B]."""
    overlap = answer_overlap(curves)
    return _first(overlap < 0.5, curves).where(~overlap.isnan().any(1), math.nan)


curve_metric(
    "decision_flip_fraction", first_flip, "morf", "min {q : argmax f(x without top q) != c}, 1 if never (tenths)",
    False, UNIT, "Serrano & Smith 2019; Chrysostomou & Aletras 2021", undefined=FLIPS, aliases=("dff",),
)  # fmt: skip
curve_metric(
    "decision_flip_top_1", share_flipped, "top_1", "1 if argmax f(x without its top token) != c, else 0", True, UNIT,
    "Chrysostomou & Aletras 2021 (most informative token)", undefined=FLIPS, aliases=("dfmit",),
)  # fmt: skip
curve_metric(
    "answer_f1_drop", answer_change, "aopc", "mean_k 1 - F1(answer of x, answer of x without top k)", True, UNIT,
    "token F1 of SQuAD (Rajpurkar et al. 2016), against the model's own answer",
    undefined=ANSWERS, tasks=QA,
)  # fmt: skip
curve_metric(
    "answer_flip_fraction", first_answer_flip, "morf",
    "min {q : F1(answer of x, answer of x without top q) < 1/2}, 1 if never (tenths)", False, UNIT,
    "decision flips for answers", undefined=ANSWERS, tasks=QA,
)  # fmt: skip
