"""Faithfulness from perturbation curves. For spans every value is the mean over start and end.

Importing this needs no torch: what a metric is, and which way it points, is asked by commands that must answer at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.metric import Metric, register

if TYPE_CHECKING:
    from torch import Tensor

    from evaluation.curves import CurveRequest, Curves
    from evaluation.levels import Levels

ERASER_LEVELS = (0.01, 0.05, 0.10, 0.20, 0.50)


@dataclass(frozen=True)
class CurveFamily:
    """Levels that several metrics are read from; `levels` None: as the run's configuration says.

    `operator`: where the configuration names none; None is the model's default.
    """

    id: str
    levels: tuple[float, ...] | None = None
    keep: bool = False
    operator: str | None = None

    def request(self, scores: Tensor, levels: Levels, operator: str | None = None) -> CurveRequest:
        """This family's curve of `scores` [B, N]; `levels` where the family has none of its own."""
        from evaluation.curves import CurveRequest

        return CurveRequest(
            scores, levels if self.levels is None else self.levels, operator or self.operator, keep=self.keep
        )


CURVES = {
    family.id: family
    for family in (
        CurveFamily("aopc"),
        CurveFamily("comprehensiveness", ERASER_LEVELS),
        CurveFamily("sufficiency", ERASER_LEVELS, keep=True),
    )
}


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


AOPC = register(
    Metric(
        "aopc",
        formula="mean_k p(x) - p(x without top k)",
        higher_is_better=True,
        range=(-1, 1),
        source="Samek et al. 2017; levels of Song et al. 2024",
        needs=("curves",),
        compute=mean_drop,
        curve="aopc",
    )
)
LOG_ODDS = register(
    Metric(
        "log_odds",
        formula="mean_k ln p(x without top k) - ln p(x)",
        higher_is_better=False,
        range=(-math.inf, math.inf),
        source="Shrikumar et al. 2017; levels of Song et al. 2024",
        needs=("curves",),
        compute=mean_log_odds,
        curve="aopc",
    )
)
COMPREHENSIVENESS = register(
    Metric(
        "comprehensiveness",
        formula="mean_q p(x) - p(x without top q), q = 1, 5, 10, 20, 50 %",
        higher_is_better=True,
        range=(-1, 1),
        source="DeYoung et al. 2020 (ERASER), eq. 1",
        needs=("curves",),
        compute=mean_drop,
        curve="comprehensiveness",
    )
)
SUFFICIENCY = register(
    Metric(
        "sufficiency",
        formula="mean_q p(x) - p(only top q of x), q = 1, 5, 10, 20, 50 %",
        higher_is_better=False,
        range=(-1, 1),
        source="DeYoung et al. 2020 (ERASER), eq. 2",
        needs=("curves",),
        compute=mean_drop,
        curve="sufficiency",
    )
)
