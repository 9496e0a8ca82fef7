"""The definitions of how much a head matters: a table, and what each asks for."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
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
from attribution.heads.gate_importance import open_gates, parts_of
from attribution.heads.gradient_importance import gate_gradient, taylor_of_parameters, token_gradient
from attribution.heads.head_pass import HeadPass
from attribution.heads.relevance import RULES, head_relevance
from attribution.heads.rows import Rows
from attribution.heads.totals import Finish, mean, per_token, per_token_to_one, share_of_layer

Readout = Callable[[HeadPass], Tensor]  # -> [B, L, H]


class Size(NamedTuple):
    """What importance is found on."""

    texts: int
    layers: int
    heads: int


@dataclass(frozen=True)
class ImportanceMethod:
    """A definition: the value of each example, and what sums over examples become.

    `readout` gives the values of a pass; `prepare` makes it, of all rows, where it cannot be known before.
    """

    id: str
    source: str
    readout: Callable[..., Tensor] | None = None
    prepare: Callable[..., Readout] | None = None
    finish: Finish = mean
    magnitude: bool = False  # |value| of each unit is summed
    groups: Callable[..., Tensor] | None = None  # [B] which examples of all rows are one unit; None: each is one
    parameters: bool = False  # reads gradients of weights
    needs_all: Callable[..., bool] = lambda **_: False  # whether values of an example depend on the others
    cost: Callable[..., tuple[int, int]] = lambda size, **_: (0, 0)  # texts it takes forward and back, beside the pass
    probe: Mapping[str, Any] = field(default_factory=dict)  # parameters with which it takes little

    def reader(self, rows: Sequence[Rows], **params: Any) -> Readout:
        """The readout with its parameters."""
        return self.prepare(rows, **params) if self.prepare else partial(self._made, **params)

    @property
    def _made(self) -> Callable[..., Any]:
        made = self.prepare or self.readout
        assert made is not None, f"{self.id} has no readout"
        return made

    @property
    def options(self) -> dict[str, Any]:
        """Its parameters and what they are unless given."""
        asked = inspect.signature(self._made).parameters.values()
        return {each.name: each.default for each in asked if each.kind is each.KEYWORD_ONLY}


def _without_one(rows: Sequence[Rows], *, ablation: str = "zero", seed: int = 0) -> Readout:
    return partial(leave_one_out, replacement=ABLATIONS[ablation](rows, seed))


def _by_batch(rows: Sequence[Rows], **_: object) -> Tensor:
    return torch.cat([torch.full((len(each.visible),), each.batch) for each in rows])


def _relevance(found: HeadPass, *, rules: str = "cp_lrp") -> Tensor:
    return head_relevance(found.rows, rules=rules)


def _of_gates(size: Size, *, parts: int, steps: int, batch: int, **_: object) -> tuple[int, int]:
    """Texts that training takes: the last step of each turn through a part may have fewer than `batch`."""
    parts = min(parts, size.texts)
    return (parts * steps * min(batch, math.ceil(size.texts / parts)),) * 2


MICHEL = "Michel et al. 2019, arXiv 1905.10650"
VOITA = "Voita et al. 2019, arXiv 1905.09418"
IMPORTANCES: dict[str, ImportanceMethod] = {
    method.id: method
    for method in (
        ImportanceMethod("gate_grad", f"{MICHEL}, eq. 2, per example", gate_gradient, magnitude=True),
        ImportanceMethod("gate_grad_token", f"{MICHEL}, as in its code", token_gradient, finish=per_token),
        ImportanceMethod(
            "gate_grad_batch", f"{MICHEL}, as in run_bertology", gate_gradient, finish=per_token_to_one,
            magnitude=True, groups=_by_batch,
        ),
        ImportanceMethod(
            "taylor_params", "Molchanov et al. 2019, arXiv 1906.10771, per example", taylor_of_parameters,
            parameters=True,
        ),
        ImportanceMethod(
            "leave_one_out", MICHEL, prepare=_without_one, needs_all=lambda ablation, **_: ablation != "zero",
            cost=lambda size, **_: (size.texts * size.layers * size.heads, 0),
        ),
        ImportanceMethod(
            "lrp_head", f"{VOITA}, with Ali et al. 2022's rules", _relevance, finish=share_of_layer,
            cost=lambda size, **_: (size.texts, size.texts),
        ),
        ImportanceMethod(
            "attention_attribution", "Hao et al. 2021, arXiv 2004.11207", attention_attribution,
            cost=lambda size, steps, **_: (size.texts * size.layers * steps,) * 2,
        ),
        ImportanceMethod(
            "l0_gates", f"{VOITA}, gates alone trained", prepare=open_gates, groups=parts_of,
            needs_all=lambda **_: True, cost=_of_gates, probe={"parts": 1, "steps": 8},
        ),
        ImportanceMethod("confidence", VOITA, confidence),
        ImportanceMethod("entropy", "Clark et al. 2019, arXiv 1906.04341", entropy),
        ImportanceMethod("normalized_entropy", "Clark et al. 2019 in parts of ln(keys)", normalized_entropy),
    )
}  # fmt: skip
CHOICES: dict[str, Mapping[str, Any]] = {"ablation": ABLATIONS, "rule": SCALES, "pool": POOLS, "rules": RULES}


def _whole(least: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and value >= least


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


# What a parameter has to be, by name: a test and what it says.
NUMBERS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("steps", "parts", "batch"), (_whole(1), "a whole number, at least 1")),
    "seed": (_whole(0), "a whole number, at least 0"),
    "penalty": (lambda value: _number(value) and value >= 0, "a number, at least 0"),
    "rate": (lambda value: _number(value) and value > 0, "a number above 0"),
}
