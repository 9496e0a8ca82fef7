"""Relevance that each head receives: what layer-wise relevance propagation finds at its output."""

from __future__ import annotations

import torch
from torch import Tensor

from attribution.capture import Need, trace
from attribution.heads.outputs import head_outputs, kept
from attribution.heads.rows import Rows
from attribution.relevance.node import AbsoluteWeights, RuleTable
from attribution.relevance.tables import ATTN_LRP, CP_LRP

RULES: dict[str, RuleTable] = {"cp_lrp": CP_LRP, "attn_lrp": ATTN_LRP}


def head_relevance(rows: Rows, *, rules: str = "cp_lrp") -> Tensor:
    """[B, L, H] relevance of the explained logit at each head's output, summed over tokens.

    With `cp_lrp` attention weights are constants, so that a layer's heads, its residual path and
    biases share the logit.
    """
    heads: list[Tensor] = []
    with head_outputs(rows.adapter, kept(heads)):
        run = trace(rows.adapter, rows.inputs, Need.MODIFIED_GRADIENT, AbsoluteWeights(), columns=rows.columns)
    seed = torch.stack([part.gradient for part in rows.parts(run.logits, "logit")]).sum(0)
    gradients = run.backward(RULES[rules], seed, heads)
    found = [
        torch.zeros_like(each) if gradient is None else each.detach() * gradient
        for each, gradient in zip(heads, gradients, strict=True)
    ]
    return torch.stack([each.double().sum((1, 3)) for each in found], 1)
