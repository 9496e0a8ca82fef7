"""Who uses which rule. A new variant of layer-wise relevance propagation is a new table."""

from __future__ import annotations

from attribution.relevance import rules
from attribution.relevance.node import Kind, RuleTable

GRADIENT = RuleTable("the gradient", rules.GRADIENT_RULES)

# Chefer et al. 2021 with Mask-LRP's gates. No entry for UNRULED: what is not listed is refused.
CHEFER = RuleTable(
    "the relevance rules of Chefer et al.",
    {
        Kind.LINEAR: rules.z_plus,
        Kind.ADD: rules.add_relevance,
        Kind.POOL: rules.pool_relevance,
        Kind.SCALE: rules.identity,
        Kind.NORM: rules.identity,
        Kind.ACTIVATION: rules.identity,
        Kind.SCORES: rules.scores_relevance,
        Kind.SOFTMAX: rules.softmax_relevance,
        Kind.PRODUCT: rules.product_relevance,
        Kind.MIX: rules.mix_relevance,
        Kind.FORK: rules.fork_relevance,
        Kind.GATE: rules.gate,
    },
)

# Ali et al. 2022: attention heads and normalisation linearised, activations by the identity rule, gates by halves.
LRP_AH_LN = RuleTable(
    "LRP with the AH and LN rules",
    {
        **rules.GRADIENT_RULES,
        Kind.NORM: rules.norm_detached_scale,
        Kind.ACTIVATION: rules.activation_ratio,
        Kind.PRODUCT: rules.product_halved,
        Kind.SCORES: rules.stop,
        Kind.SOFTMAX: rules.stop,
        Kind.MIX: rules.mix_to_value,
    },
)
