"""The definitions of how much a head matters: a table, and what each asks for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from attribution.heads.ablation import ABLATIONS, leave_one_out
from attribution.heads.attention_importance import (
    POOLS,
    SCALES,
    attention_attribution,
    confidence,
    entropy,
    normalized_entropy,
)
from attribution.heads.gradient_importance import gate_gradient, taylor_of_parameters, token_gradient
from attribution.heads.head_pass import HeadPass
from attribution.heads.relevance import RULES, head_relevance
from attribution.heads.rows import Rows
from attribution.heads.totals import Finish, mean, per_token, per_token_to_one, share_of_layer

Readout = Callable[[HeadPass], Tensor]  # -> [B, L, H]


@dataclass(frozen=True)
class ImportanceMethod:
    """A definition: the value of each example, and what sums over examples become."""

    id: str
    readout: Callable[..., Tensor]
    source: str
    finish: Finish = mean
    magnitude: bool = False  # |value| of each unit is summed
    by_batch: bool = False  # the unit is the batch as it was given
    parameters: bool = False  # reads gradients of weights
    prepare: Callable[..., Readout] | None = None  # what needs all rows before the first; else the readout alone

    def reader(self, rows: Sequence[Rows], **params: Any) -> Readout:
        """The readout with its parameters."""
        return self.prepare(rows, **params) if self.prepare else partial(self.readout, **params)

    @property
    def options(self) -> list[str]:
        """Names of its parameters."""
        asked = inspect.signature(self.prepare or self.readout).parameters.values()
        return [each.name for each in asked if each.kind is each.KEYWORD_ONLY]


def _without_one(rows: Sequence[Rows], *, ablation: str = "zero", seed: int = 0) -> Readout:
    return partial(leave_one_out, replacement=ABLATIONS[ablation](rows, seed))


def _relevance(found: HeadPass, *, rules: str = "cp_lrp") -> Tensor:
    return head_relevance(found.rows, rules=rules)


MICHEL = "Michel et al. 2019, arXiv 1905.10650"
IMPORTANCES: dict[str, ImportanceMethod] = {
    method.id: method
    for method in (
        ImportanceMethod("gate_grad", gate_gradient, f"{MICHEL}, eq. 2, per example", magnitude=True),
        ImportanceMethod("gate_grad_token", token_gradient, f"{MICHEL}, as in its code", per_token),
        ImportanceMethod(
            "gate_grad_batch", gate_gradient, f"{MICHEL}, as in run_bertology", per_token_to_one, magnitude=True,
            by_batch=True,
        ),
        ImportanceMethod(
            "taylor_params", taylor_of_parameters, "Molchanov et al. 2019, arXiv 1906.10771, per example",
            parameters=True,
        ),
        ImportanceMethod("leave_one_out", leave_one_out, MICHEL, prepare=_without_one),
        ImportanceMethod(
            "lrp_head", _relevance, "Voita et al. 2019, arXiv 1905.09418, with Ali et al. 2022's rules", share_of_layer,
        ),
        ImportanceMethod("attention_attribution", attention_attribution, "Hao et al. 2021, arXiv 2004.11207"),
        ImportanceMethod("confidence", confidence, "Voita et al. 2019, arXiv 1905.09418"),
        ImportanceMethod("entropy", entropy, "Clark et al. 2019, arXiv 1906.04341"),
        ImportanceMethod("normalized_entropy", normalized_entropy, "Clark et al. 2019 in parts of ln(keys)"),
    )
}  # fmt: skip
CHOICES: dict[str, Mapping[str, Any]] = {"ablation": ABLATIONS, "rule": SCALES, "pool": POOLS, "rules": RULES}
