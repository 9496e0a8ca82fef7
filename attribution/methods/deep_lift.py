"""DeepLift: exact finite differences between an input and a baseline, carried backwards.

Its facts: `baseline_value`, what is explained of the baseline, and `completeness_error`, by how much the scores miss
the difference between input and baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from attribution.asking import Scored
from attribution.capture import Capture, Need
from attribution.errors import InputError
from attribution.methods.registry import register
from attribution.relevance.multipliers import softmax_multiplier
from attribution.relevance.tables import CAPTUM_DEEP_LIFT, DEEP_LIFT
from attribution.targets import Part

SOURCE = "Shrikumar et al. 2017"
RULES = {"full": DEEP_LIFT, "captum": CAPTUM_DEEP_LIFT}
BASELINES = ("pad", "mask", "zero")
ABSENT = -1e30  # a logit that is not a candidate


@register("deep_lift", needs=Need.MODIFIED_GRADIENT, table=DEEP_LIFT, source=f"{SOURCE}; our rules", signed=True)
def deep_lift(capture: Capture, *, baseline: str = "pad", rules: str = "full") -> Scored:
    """Multiplier times (embedding - baseline) [B, N]: sums to the difference between input and baseline.

    baseline: every token but special ones becomes the `pad` or `mask` token, or its embedding `zero`; positions and
        token types stay.
    rules: `full` knows every operation, so that the sum holds; `captum` gives what Captum gives, and it does not hold.
    """
    return _compared(capture, baseline, rules)


@register(
    "deep_lift_shap",
    needs=Need.MODIFIED_GRADIENT,
    table=DEEP_LIFT,
    source=f"{SOURCE}, Lundberg & Lee 2017; our rules",
    signed=True,
)
def deep_lift_shap(capture: Capture, *, baselines: Sequence[str] = ("pad", "zero"), rules: str = "full") -> Scored:
    """Mean of `deep_lift` over several baselines, [B, N]; each costs a forward and a backward."""
    if not baselines:
        raise InputError("deep_lift_shap: baselines is empty; choices: " + ", ".join(BASELINES))
    each = [_compared(capture, baseline, rules) for baseline in baselines]
    scores = torch.stack([one.scores for one in each]).mean(0)
    facts = {name: torch.stack([one.facts[name] for one in each]).mean(0) for name in each[0].facts}
    return Scored(scores, facts)


def _compared(capture: Capture, baseline: str, rules: str) -> Scored:
    if rules not in RULES:
        raise InputError(f"deep_lift: rules={rules} is unknown; choices: {', '.join(RULES)}")
    embeddings = baseline_embeddings(capture, baseline)
    found = capture.modified.multipliers(capture.part, RULES[rules], baseline, embeddings, _seed(capture))
    scores = (found.multipliers * (capture.embeddings - embeddings)).sum(-1)
    value = capture.part.value(found.logits, capture.visible, capture.part.chosen)
    error = scores.sum(1) - (capture.value - value)
    return Scored(scores, {"baseline_value": value, "completeness_error": error})


def baseline_embeddings(capture: Capture, baseline: str) -> Tensor:
    """[B, N, E] word embeddings of the rows with every token that is not special replaced."""
    adapter, inputs = capture.trace.adapter, capture.trace.inputs
    kept = adapter.special_tokens(inputs)
    if baseline == "zero":
        return capture.embeddings * kept[..., None]
    tokens = {"pad": adapter.pad_id, "mask": adapter.mask_id}
    if (token := tokens.get(baseline)) is None:
        known = [name for name in BASELINES if tokens.get(name, 0) is not None]
        raise InputError(f"baseline={baseline} is unknown, or a token the model lacks; choices: {', '.join(known)}")
    with torch.no_grad():
        replacement: Tensor = adapter.model.get_input_embeddings()(torch.tensor(token, device=adapter.device))
    return torch.where(kept[..., None], capture.embeddings, replacement)


def _seed(capture: Capture) -> Callable[[Part, Tensor], Tensor]:
    intact, visible = capture.trace.logits.detach(), capture.visible

    def seed(part: Part, baseline: Tensor) -> Tensor:
        """Multiplier of the logits: their gradient, or through the softmax of those that are candidates."""
        if part.output == "logit":
            return part.gradient
        x, b = (y if part.end is None else y.masked_fill(~visible[..., None], ABSENT) for y in (intact, baseline))
        return softmax_multiplier(part.relevance, x, b, dim=1)

    return seed
