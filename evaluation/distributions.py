"""What becomes of the whole distribution over classes as tokens are taken away. Importing this needs no torch.

The additional measures of ERASER, averaged over its levels. It names no better direction; ours follows from what the
measure is of: without the evidence a model is less sure and decides otherwise, from the evidence alone it is as before.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attribution.errors import InputError
from evaluation.faithfulness import ANY, EMPTY, ERASER, ERASER_SAID, curve_metric

if TYPE_CHECKING:
    from torch import Tensor

    from evaluation.curves import Curves

CLASSES = ("classification",)


def entropy_drop(curves: Curves) -> Tensor:
    """Mean over the levels of H(p(x)) - H(p(x')), [B], in nats."""
    return _kept(curves.entropy_drops).mean(1)


def divergence(curves: Curves) -> Tensor:
    """Mean over the levels of KL(p(x') || p(x)), [B], in nats."""
    return _kept(curves.divergences).mean(1)


def _kept(values: Tensor | None) -> Tensor:
    if values is None:
        raise InputError("metric: these curves were kept without their distributions; draw them anew")
    return values


SOURCE, SPREAD = f"{ERASER}, additional measures", (0.0, math.inf)
for part, left, better in (("comprehensiveness", "x without top q", False), ("sufficiency", "only top q of x", True)):
    curve_metric(
        f"{part}_entropy", entropy_drop, part, f"mean_q H(p(x)) - H(p({left})), {ERASER_SAID}", better,
        ANY, SOURCE, undefined=EMPTY, tasks=CLASSES,
    )  # fmt: skip
    curve_metric(
        f"{part}_kl", divergence, part, f"mean_q KL(p({left}) || p(x)), {ERASER_SAID}", not better,
        SPREAD, SOURCE, undefined=EMPTY, tasks=CLASSES,
    )  # fmt: skip
