"""Activation and pruning of Ali et al. 2022: a text put together from its best tokens, or thinned out by its least.

Levels are tenths of all tokens, special ones among them, from none to all; the unknown token stands for what is not
there. Importing this needs no torch, like `evaluation.faithfulness`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attribution.errors import InputError
from evaluation.faithfulness import CURVES, CurveFamily
from evaluation.metric import Metric, register

if TYPE_CHECKING:
    from torch import Tensor

    from evaluation.curves import CurveRequest, Curves
    from evaluation.levels import Levels

FRACTIONS = tuple(step / 10 for step in range(11))
ALI = "Ali et al. 2022, arXiv 2202.07304, section 5"


@dataclass(frozen=True)
class FlipFamily(CurveFamily):
    """A curve over FRACTIONS of all tokens. `magnitude`: ranked by the size of the scores, the smallest first."""

    levels: tuple[float, ...] = FRACTIONS
    operator: str = "unk"
    magnitude: bool = False

    def request(self, scores: Tensor, levels: Levels, operator: str | None = None) -> CurveRequest:
        """The curve of `scores` [B, N]; its levels are its own."""
        from evaluation.curves import CurveRequest

        ranked, order = (scores.abs(), "least_relevant_first") if self.magnitude else (scores, "most_relevant_first")
        return CurveRequest(ranked, FRACTIONS, operator or self.operator, order, self.keep, special=True)


for family in (FlipFamily("activation", keep=True), FlipFamily("pruning", magnitude=True)):
    CURVES[family.id] = family


def area(values: Tensor) -> Tensor:
    """Area [B] under values [B, 11] at FRACTIONS, by the trapezoid rule."""
    import torch

    return torch.trapezoid(values, dx=FRACTIONS[1])


def probability_area(curves: Curves) -> Tensor:
    """Area under the probability of the target, [B]; for spans the mean over start and end."""
    return area(curves.of_target(curves.probabilities).mean(-1))


def error_area(curves: Curves) -> Tensor:
    """Area under the summed squared change of the logits, [B]."""
    if curves.squared_errors is None:
        raise InputError("au_mse: these curves were kept without their squared errors; draw them anew")
    return area(curves.squared_errors)


def conservation_error(relevance: Tensor, explained: Tensor) -> Tensor:
    """|relevance - explained| / |explained| of sums [B]; NaN where nothing is explained."""
    return ((relevance - explained).abs() / explained.abs()).where(explained != 0, math.nan)


AUAC = register(
    Metric(
        "auac",
        formula="area under p(only top q of x) over q = 0, 10, ..., 100 % of all tokens, the rest unknown",
        higher_is_better=True,
        range=(0, 1),
        source=f"{ALI} (activation task; of the gold class: explain.target=gold)",
        needs=("curves",),
        compute=probability_area,
        curve="activation",
    )
)
AU_MSE = register(
    Metric(
        "au_mse",
        formula="area under sum_c (f_c(x) - f_c(x without its q smallest |scores|))^2 over q = 0, 10, ..., 100 %",
        higher_is_better=False,
        range=(0, math.inf),
        source=f"{ALI} (pruning task)",
        needs=("curves",),
        compute=error_area,
        curve="pruning",
    )
)
AUPC = register(
    Metric(
        "aupc",
        formula="area under p(x without its q smallest |scores|) over q = 0, 10, ..., 100 % of all tokens",
        higher_is_better=True,
        range=(0, 1),
        source="the code of Ali et al. 2022 (pruning task; of the gold class: explain.target=gold)",
        needs=("curves",),
        compute=probability_area,
        curve="pruning",
    )
)
CONSERVATION_ERROR = register(
    Metric(
        "conservation_error",
        formula="|sum of relevance - what is explained| / |what is explained|",
        higher_is_better=False,
        range=(0, math.inf),
        source="Ali et al. 2022, arXiv 2202.07304, section 4",
        needs=("relevance", "explained"),
        compute=conservation_error,
        category="axiomatic",
        undefined="where nothing is explained",
    )
)
