"""Faithfulness from perturbation curves. For spans every value is the mean over start and end, unless it says joint.

Importing this needs no torch: what a metric is, and which way it points, is asked by commands that must answer at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evaluation.metric import Metric, register

if TYPE_CHECKING:
    from torch import Tensor

    from evaluation.curves import CurveRequest, Curves
    from evaluation.levels import Levels

ERASER_LEVELS = (0.01, 0.05, 0.10, 0.20, 0.50)
TENTHS_FROM_0 = tuple(step / 10 for step in range(11))


@dataclass(frozen=True)
class CurveFamily:
    """Levels that several metrics are read from; `levels` None: as the run's configuration says.

    `operator`: where the configuration names none; None is the model's default.
    """

    id: str
    levels: tuple[float, ...] | None = None
    keep: bool = False
    operator: str | None = None
    order: str = "most_relevant_first"

    def request(self, scores: Tensor, levels: Levels, operator: str | None = None) -> CurveRequest:
        """This family's curve of `scores` [B, N]; `levels` where the family has none of its own."""
        from evaluation.curves import CurveRequest

        own = levels if self.levels is None else self.levels
        return CurveRequest(scores, own, operator or self.operator, self.order, self.keep)


CURVES = {
    family.id: family
    for family in (
        CurveFamily("aopc"),
        CurveFamily("comprehensiveness", ERASER_LEVELS),
        CurveFamily("sufficiency", ERASER_LEVELS, keep=True),
        CurveFamily("comprehensiveness_to_empty", (*ERASER_LEVELS, 1.0)),
        CurveFamily("sufficiency_from_empty", (0.0, *ERASER_LEVELS), keep=True),
        CurveFamily("morf", TENTHS_FROM_0),
        CurveFamily("lerf", TENTHS_FROM_0, order="least_relevant_first"),
        CurveFamily("insertion", TENTHS_FROM_0, keep=True),
        CurveFamily("top_1", (1,)),
    )
}


def target_values(curves: Curves, output: str = "probability") -> tuple[Tensor, Tensor]:
    """Of the target, the mean over start and end: along the curve [B, K] and intact [B]; output: probability, logit."""
    values, intact = {
        "probability": (curves.probabilities, curves.intact_probabilities),
        "logit": (curves.logits, curves.intact_logits),
        "log_probability": (curves.log_probabilities, curves.intact_log_probabilities),
    }[output]
    return curves.of_target(values).mean(-1), curves.of_target(intact).mean(-1)


def probability_drops(curves: Curves) -> Tensor:
    """p(x) - p(perturbed x) of the target at each level, [B, K]."""
    intact = curves.of_target(curves.intact_probabilities)[:, None]
    return (intact - curves.of_target(curves.probabilities)).mean(-1)


def log_odds_steps(curves: Curves) -> Tensor:
    """Ln p(perturbed x) - ln p(x) of the target at each level, [B, K]."""
    intact = curves.of_target(curves.intact_log_probabilities)[:, None]
    return (curves.of_target(curves.log_probabilities) - intact).mean(-1)


def mean_drop(curves: Curves) -> Tensor:
    """Mean of the probability drops over the levels, [B]."""
    return probability_drops(curves).mean(1)


def mean_log_odds(curves: Curves) -> Tensor:
    """Mean of the log-odds over the levels, [B]."""
    return log_odds_steps(curves).mean(1)


def joint_drop(curves: Curves) -> Tensor:
    """Mean over the levels of the drop of P(start) P(end), [B]."""
    joint, intact = (
        curves.of_target(each).sum(-1).exp() for each in (curves.log_probabilities, curves.intact_log_probabilities)
    )
    return (intact[:, None] - joint).mean(1)


def joint_log_odds(curves: Curves) -> Tensor:
    """Mean over the levels of ln P(start) P(end) less that of the intact text, [B]."""
    steps = curves.of_target(curves.log_probabilities) - curves.of_target(curves.intact_log_probabilities)[:, None]
    return steps.sum(-1).mean(1)


def normalised_comprehensiveness(curves: Curves) -> Tensor:
    """Drops as a share of the drop when nothing is left; the last level removes everything. [B]."""
    drops = probability_drops(curves).clamp(min=0)
    return _share_of_empty(drops[:, :-1], drops[:, -1], _reached(curves, -1, 1.0))


def normalised_sufficiency(curves: Curves) -> Tensor:
    """How much of the drop when nothing is left the top tokens make good; the first level keeps nothing. [B]."""
    drops = probability_drops(curves).clamp(min=0)
    return _share_of_empty(drops[:, :1] - drops[:, 1:], drops[:, 0], _reached(curves, 0, 0.0))


def _reached(curves: Curves, place: int, level: float) -> Tensor:
    """Where a level is what it was meant to be: deletion leaves one token of a text without special ones."""
    return curves.levels[:, place] == level


def _share_of_empty(part: Tensor, empty: Tensor, reached: Tensor) -> Tensor:
    return (part.mean(1) / empty).where(reached & (empty > 0), math.nan)


def area(curves: Curves, output: str = "probability") -> Tensor:
    """Mean height of the curve over the fractions it covers, by the trapezoid rule, the intact text included: [B].

    Levels at which the same tokens are touched make no step, so that short texts weigh like long ones.
    """
    import torch

    values, intact = target_values(curves, output)
    end = torch.full_like(curves.levels[:, :1], float(curves.keep)).where(curves.levels[:, :1].isfinite(), math.nan)
    at, order = torch.cat((curves.levels, end), 1).sort(dim=1, stable=True)
    height = torch.cat((values, intact[:, None]), 1).gather(1, order)
    covered = at[:, -1] - at[:, 0]
    total = ((height[:, 1:] + height[:, :-1]) / 2 * (at[:, 1:] - at[:, :-1])).sum(1)
    return total / covered


def delta_area(morf: Curves, lerf: Curves, output: str = "probability") -> Tensor:
    """Area between the curve of the least relevant and that of the most relevant first, [B]."""
    return area(lerf, output) - area(morf, output)


def steps_that_do_not_rise(curves: Curves) -> Tensor:
    """Share of the steps of a removal curve at which the target's probability does not rise, [B]."""
    import torch

    values, intact = target_values(curves)
    heights = torch.cat((intact[:, None], values), 1)
    counts = torch.cat((torch.zeros_like(curves.counts[:, :1]), curves.counts), 1)
    steps = counts[:, 1:] > counts[:, :-1]
    falls = (heights[:, 1:] <= heights[:, :-1]) & steps
    return (falls.sum(1) / steps.sum(1)).double().where(~heights.isnan().any(1), math.nan)


def mean_gap(curves: Curves) -> Tensor:
    """Mean over the levels of how far the target's probability moves, whichever way: [B]."""
    return probability_drops(curves).abs().mean(1)


EMPTY = "of texts without perturbable tokens"
UNIT, SIGNED, ANY = (0.0, 1.0), (-1.0, 1.0), (-math.inf, math.inf)


def curve_metric(
    id: str,
    compute: Callable[..., Tensor],
    curve: str,
    formula: str,
    higher_is_better: bool,
    range: tuple[float, float],
    source: str,
    **rest: Any,
) -> Metric:
    """Registered, read from one curve family."""
    about = {"undefined": EMPTY, **rest}
    return register(Metric(id, formula, higher_is_better, range, source, ("curves",), compute, curve, **about))


SAMEK, SONG = "Samek et al. 2017", "levels of Song et al. 2024"
ERASER = "DeYoung et al. 2020 (ERASER)"
CARTON = "Carton et al. 2020, arXiv 2010.04736"
OPEN_XAI = "Agarwal et al. 2022, arXiv 2206.11104 (OpenXAI), the operator for Gaussian noise"
TENTHS_SAID, ERASER_SAID = "q = 0, 10, ..., 100 %", "q = 1, 5, 10, 20, 50 %"

AOPC = curve_metric(
    "aopc", mean_drop, "aopc", "mean_k p(x) - p(x without top k)", True, SIGNED, f"{SAMEK}; {SONG}"
)  # fmt: skip
LOG_ODDS = curve_metric(
    "log_odds", mean_log_odds, "aopc", "mean_k ln p(x without top k) - ln p(x)", False, ANY,
    f"Shrikumar et al. 2017; {SONG}", aliases=("lodds",),
)  # fmt: skip
COMPREHENSIVENESS = curve_metric(
    "comprehensiveness", mean_drop, "comprehensiveness", f"mean_q p(x) - p(x without top q), {ERASER_SAID}", True,
    SIGNED, f"{ERASER}, eq. 1",
)  # fmt: skip
SUFFICIENCY = curve_metric(
    "sufficiency", mean_drop, "sufficiency", f"mean_q p(x) - p(only top q of x), {ERASER_SAID}", False, SIGNED,
    f"{ERASER}, eq. 2",
)  # fmt: skip
curve_metric(
    "normalised_comprehensiveness", normalised_comprehensiveness, "comprehensiveness_to_empty",
    f"mean_q max(0, p(x) - p(x without top q)) / max(0, p(x) - p(empty)), {ERASER_SAID}", True, (0, math.inf), CARTON,
    undefined=f"{EMPTY}; where nothing left does not lower p",
)  # fmt: skip
curve_metric(
    "normalised_sufficiency", normalised_sufficiency, "sufficiency_from_empty",
    f"mean_q (S(top q) - S(empty)) / (1 - S(empty)), S(r) = 1 - max(0, p(x) - p(r)), {ERASER_SAID}", True,
    (-math.inf, 1), CARTON, undefined=f"{EMPTY}; where nothing left does not lower p",
)  # fmt: skip
curve_metric(
    "aopc_comprehensiveness", mean_drop, "morf", f"mean_q p(x) - p(x without top q), {TENTHS_SAID}", True, SIGNED,
    f"{ERASER}, AOPC with the empty rationale", aliases=("aopc_compr",),
)  # fmt: skip
curve_metric(
    "aopc_sufficiency", mean_drop, "insertion", f"mean_q p(x) - p(only top q of x), {TENTHS_SAID}", False, SIGNED,
    f"{ERASER}, AOPC with the empty rationale", aliases=("aopc_suff",),
)  # fmt: skip
curve_metric(
    "auc_morf", area, "morf", "area under p(x without top q) over the fraction q of tokens, 0 to 1", False, UNIT,
    f"{SAMEK}; Petsiuk et al. 2018 (deletion)", aliases=("deletion_auc", "deletion"),
)  # fmt: skip
curve_metric(
    "auc_lerf", area, "lerf", "area under p(x without bottom q) over the fraction q of tokens, 0 to 1", True, UNIT,
    SAMEK,
)  # fmt: skip
curve_metric(
    "insertion_auc", area, "insertion", "area under p(only top q of x) over the fraction q of tokens, 0 to 1", True,
    UNIT, "Petsiuk et al. 2018 (insertion)", aliases=("insertion",),
)  # fmt: skip
register(
    Metric(
        "delta_auc",
        "auc_lerf - auc_morf",
        True,
        SIGNED,
        "Achtibat et al. 2024 (AttnLRP), table 1",
        ("morf", "lerf"),
        delta_area,
        reads={"morf": "morf", "lerf": "lerf"},
        undefined=EMPTY,
    )
)
curve_metric(
    "pgi", mean_gap, "comprehensiveness", f"mean_q |p(x) - p(x without top q)|, {ERASER_SAID}", True, UNIT, OPEN_XAI,
)  # fmt: skip
curve_metric(
    "pgu", mean_gap, "sufficiency", f"mean_q |p(x) - p(only top q of x)|, {ERASER_SAID}", False, UNIT, OPEN_XAI,
)  # fmt: skip
curve_metric(
    "monotonicity", steps_that_do_not_rise, "morf",
    "share of steps, adding the least relevant tokens first to the empty text, that do not lower p (tenths)", True,
    UNIT, "Arya et al. 2019, as a share",
)  # fmt: skip
curve_metric(
    "joint_aopc", joint_drop, "aopc", "mean_k P(start) P(end) - the same without top k", True, SIGNED,
    "AOPC of a span as one event",
)  # fmt: skip
curve_metric(
    "joint_log_odds", joint_log_odds, "aopc", "mean_k ln P(start) P(end) without top k - the same intact", False, ANY,
    "log-odds of a span as one event",
)  # fmt: skip
