"""Layer-wise relevance propagation in gradient form: input times a gradient modified by a rule table.

What the rules conserve is in the facts of each example: `explained` = `relevance` + `absorbed_by_biases` +
`absorbed_by_positions` where a table conserves (`attribution.conservation`). The relevance is that of the word
embeddings; positions and token types absorb theirs. Each takes `layer`: read at what enters that block instead, where
the facts tell what was explained and the sum of the relevance alone.
"""

from __future__ import annotations

from attribution.asking import Scored
from attribution.capture import Capture, Need
from attribution.methods.registry import register
from attribution.relevance.node import RuleTable
from attribution.relevance.tables import ATTN_LRP, CP_LRP, LRP_AH, LRP_AH_LN, LRP_LN

ALI = "Ali et al. 2022, arXiv 2202.07304"
ACHTIBAT = "Achtibat et al. 2024, arXiv 2402.05602"


@register("lrp_ah", needs=Need.MODIFIED_GRADIENT, table=LRP_AH, source=f"{ALI}, eq. 10", signed=True)
def lrp_ah(capture: Capture, *, layer: int | None = None) -> Scored:
    """Relevance [B, N] with attention weights as constants; activations by the identity rule."""
    return _scored(capture, LRP_AH, layer)


@register("lrp_ln", needs=Need.MODIFIED_GRADIENT, table=LRP_LN, source=f"{ALI}, eq. 11", signed=True)
def lrp_ln(capture: Capture, *, layer: int | None = None) -> Scored:
    """Relevance [B, N] with the 1/std of normalisations as constants; activations by the identity rule."""
    return _scored(capture, LRP_LN, layer)


@register("lrp_ah_ln", needs=Need.MODIFIED_GRADIENT, table=LRP_AH_LN, source=ALI, signed=True)
def lrp_ah_ln(capture: Capture, *, layer: int | None = None) -> Scored:
    """Relevance [B, N] with attention and normalisation treated as constants: conserves the logit.

    What the embeddings do not hold has been absorbed by biases, positions and token types.
    """
    return _scored(capture, LRP_AH_LN, layer)


@register("cp_lrp", needs=Need.MODIFIED_GRADIENT, table=CP_LRP, source=f"{ALI}, as in {ACHTIBAT}", signed=True)
def cp_lrp(capture: Capture, *, layer: int | None = None) -> Scored:
    """Relevance [B, N] as of `lrp_ah_ln`, except that the gate of a gated feed-forward layer is a constant too."""
    return _scored(capture, CP_LRP, layer)


@register("attn_lrp", needs=Need.MODIFIED_GRADIENT, table=ATTN_LRP, source=ACHTIBAT, signed=True)
def attn_lrp(capture: Capture, *, layer: int | None = None) -> Scored:
    """Relevance [B, N] that flows through attention weights too: half of every product to each of its factors.

    Softmax and product biases keep part of it: it does not conserve the logit.
    """
    return _scored(capture, ATTN_LRP, layer)


def _scored(capture: Capture, table: RuleTable, layer: int | None) -> Scored:
    found = capture.modified.conserved(capture.part, table, layer)
    scores = found.relevance.sum(-1)
    absorbed = {f"absorbed_by_{name}": share for name, share in found.absorbed.items()}
    return Scored(
        scores, {"value": capture.value, "explained": capture.explained, "relevance": scores.sum(1), **absorbed}
    )
