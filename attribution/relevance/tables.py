"""Who uses which rule. A new variant of layer-wise relevance propagation is a new table."""

from __future__ import annotations

from attribution.relevance import multipliers, rules
from attribution.relevance.node import Kind, RuleTable

GRADIENT = RuleTable("the gradient", rules.GRADIENT_RULES)

# Chefer et al. 2021 with Mask-LRP's gates. No entry for UNRULED: what is not listed is refused.
CHEFER = RuleTable(
    "the relevance rules of Chefer et al.",
    {
        Kind.LINEAR: rules.z_plus,
        Kind.ADD: rules.add_relevance,
        Kind.POOL: rules.pool_relevance,
        Kind.SHIFT: rules.shift_gradient,
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

# Modified gradients: relevance is x times what arrives, at any layer. What has no rule passes its gradient.
# Ali et al. 2022: linear maps by the epsilon rule (the gradient), activations by the identity rule, gates by halves.
IDENTITY = {
    **rules.GRADIENT_RULES,
    Kind.ACTIVATION: rules.activation_ratio,
    Kind.PRODUCT: rules.halved(rules.recomputed_gradient),
}
# Attention weights are constants.
HEADS = {Kind.SCORES: rules.stop, Kind.SOFTMAX: rules.stop, Kind.MIX: rules.mix_to_value}
# 1/std is a constant.
NORMS = {Kind.NORM: rules.norm_detached_scale}

LRP_AH = RuleTable("LRP with the AH rule", {**IDENTITY, **HEADS})
LRP_LN = RuleTable("LRP with the LN rule", {**IDENTITY, **NORMS})
LRP_AH_LN = RuleTable("LRP with the AH and LN rules", {**IDENTITY, **HEADS, **NORMS})
# Achtibat et al. 2024's reading of Ali et al.: a gate is a constant like an attention weight.
CP_LRP = RuleTable("CP-LRP", {**LRP_AH_LN.rules, Kind.PRODUCT: rules.gate_constant})
# Achtibat et al. 2024: both factors of every product receive half, the softmax by its Taylor expansion (the gradient).
ATTN_LRP = RuleTable(
    "AttnLRP",
    {
        **IDENTITY,
        **NORMS,
        Kind.SCORES: rules.halved(rules.scores_gradient),
        Kind.MIX: rules.halved(rules.mix_gradient),
    },
)

# No entry for UNRULED: what is not listed might not be linear, and is refused.
DEEP_LIFT = RuleTable(
    "DeepLift",
    {
        **{kind: rule for kind, rule in rules.GRADIENT_RULES.items() if kind is not Kind.UNRULED},
        Kind.PRODUCT: multipliers.product_middle,
        Kind.NORM: multipliers.norm_difference,
        Kind.ACTIVATION: multipliers.activation_difference,
        Kind.SCORES: multipliers.scores_middle,
        Kind.SOFTMAX: multipliers.softmax_difference,
        Kind.MIX: multipliers.mix_middle,
    },
)
# As Captum 0.9 has it: finite differences at the activation modules of torch, gradients everywhere else.
CAPTUM_DEEP_LIFT = RuleTable(
    "DeepLift as in Captum", {**rules.GRADIENT_RULES, Kind.ACTIVATION: multipliers.captum_activation}
)
