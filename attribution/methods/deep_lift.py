"""DeepLift: exact finite differences between an input and a baseline, carried backwards.

Facts of each: value, baseline_value, completeness_error of each example (means over baselines).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from attribution.asking import Scored
from attribution.capture import Capture, Need
from attribution.errors import InputError
from attribution.methods.baselines import BASELINES, baseline_embeddings
from attribution.methods.registry import register
from attribution.precision import MULTIPLIERS
from attribution.relevance.multipliers import slope, softmax_multiplier
from attribution.relevance.tables import CAPTUM_DEEP_LIFT, DEEP_LIFT
from attribution.targets import Part

SOURCE = "Shrikumar et al. 2017"
RULES = {"full": DEEP_LIFT, "captum": CAPTUM_DEEP_LIFT}
ABSENT = -1e30  # a logit that is not a candidate


@register(
    "deep_lift",
    needs=Need.MODIFIED_GRADIENT,
    table=DEEP_LIFT,
    source=f"{SOURCE}; our rules",
    signed=True,
    aliases=("DeepLift",),
    asked=("1", "1"),
    choices={"baseline": tuple(BASELINES), "rules": tuple(RULES)},
    precision=MULTIPLIERS,
)
def deep_lift(capture: Capture, *, baseline: str | None = None, rules: str = "full") -> Scored:
    """Difference to the baseline times multipliers: scores [B, N] add up to the change of what is explained.

    baseline: every token but special ones becomes the `pad`, `mask` or `unk` token, or `zero` vectors; None is the
        first of these that the model has. Positions and token types stay.
    rules: `full` carries every operation exactly, so that the sum holds; `captum` gives what Captum gives, and on
        transformers it does not hold.
    """
    return _compared(capture, baseline, rules)


@register(
    "deep_lift_shap",
    needs=Need.MODIFIED_GRADIENT,
    table=DEEP_LIFT,
    source=f"{SOURCE}, Lundberg & Lee 2017; our rules",
    signed=True,
    aliases=("DeepLiftShap", "lds"),
    asked=("len(baselines)", "len(baselines)"),
    choices={"rules": tuple(RULES)},
    precision=MULTIPLIERS,
)
def deep_lift_shap(capture: Capture, *, baselines: Sequence[str] | None = None, rules: str = "full") -> Scored:
    """Mean of `deep_lift` over several baselines, [B, N]; None: the token that it takes, and `zero`."""
    if baselines is not None and not len(baselines):
        raise InputError(f"deep_lift_shap: baselines is empty; choices: {', '.join(BASELINES)}")
    each = [_compared(capture, baseline, rules) for baseline in ((None, "zero") if baselines is None else baselines)]
    scores = torch.stack([one.scores for one in each]).mean(0)
    return Scored(scores, {name: torch.stack([one.facts[name] for one in each]).mean(0) for name in each[0].facts})


def _compared(capture: Capture, baseline: str | None, rules: str) -> Scored:
    part, embeddings = capture.part, baseline_embeddings(capture, baseline)
    found = capture.modified.multipliers(part, RULES[rules], str(baseline), embeddings, _seed)
    scores = (found.multipliers * (capture.embeddings - embeddings)).sum(-1)
    value, before = capture.value, part.value(found.logits, capture.visible, part.chosen)
    error = scores.sum(1) - (value - before)
    return Scored(scores, {"value": value, "baseline_value": before, "completeness_error": error})


def _seed(part: Part, baseline: Tensor) -> Tensor:
    """Multiplier of the logits against those of the baseline: their gradient, or through what makes probabilities."""
    if part.output == "logit":
        return part.gradient
    x, b = part.logits.detach(), baseline
    if part.independent:
        return part.relevance * slope(torch.sigmoid, x, b, x.sigmoid(), b.sigmoid())
    if part.end is not None:
        x, b = (logits.masked_fill(~part.visible[..., None], ABSENT) for logits in (x, b))
    return softmax_multiplier(part.relevance, x, b, dim=1 if part.column is None else 2)
