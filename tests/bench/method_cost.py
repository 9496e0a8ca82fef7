"""What every registered method costs on a random bert-base, one text, one thread, in plain passes of the model.

Matrix products are counted by torch; processor time is measured in turns with the plain pass, in the same process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from attribution_cost import bert_base, half_of_the_heads
from timing import Ratio, ratio, verdict
from transformers import BertConfig, BertForMaskedLM

from attribution import METHODS, Explainer
from attribution.decoding import head_of
from attribution.patterns.costs import products

FORWARD, BOTH = "forward", "forward+backward"
N, SHORT = 128, 32
ROUNDS = ((20.0, 7), (60.0, 3))  # of the timing of methods that take fewer plain forwards, by their products; else one


@dataclass(frozen=True)
class Limit:
    """What a cost should not exceed, in plain passes of a kind; the backward is that to the embeddings alone."""

    unit: str
    products: float | None = None  # matrix products
    time: float | None = None  # process time


@dataclass(frozen=True)
class Case:
    """A method with parameters on a text of `length` tokens."""

    method: str
    length: int = N
    parameters: Mapping[str, Any] = field(default_factory=dict)
    limit: Limit = Limit(FORWARD)

    @property
    def name(self) -> str:
        """Method, length and parameters."""
        given = "".join(f" {name}={value}" for name, value in self.parameters.items())
        return f"{self.method} N={self.length}{given}"


CONSERVATIVE = Limit(BOTH, products=1.02, time=1.15)
LIMITED = (
    Case("attn_lrp", limit=CONSERVATIVE),
    Case("lrp_ah_ln", limit=CONSERVATIVE),
    Case("deep_lift", limit=Limit(FORWARD, time=4.6)),
    Case("decoded_layer", 64, {"layer": 10}, Limit(FORWARD, time=1.6)),
    Case("decoded_layer", 64, {"layer": 10, "aggregate": "restricted"}),
    Case("integrated_gradients", N, {"n_steps": 20, "tolerance": None}, Limit(FORWARD, time=43)),
)


@dataclass(frozen=True)
class Counted:
    """Matrix products of a method in plain passes."""

    name: str
    unit: str
    ratio: float
    limit: float | None

    def __str__(self) -> str:
        return f"{self.name:44s} {self.ratio:6.3f} matrix products x {self.unit}{verdict(self.ratio, self.limit)}"


def cases() -> list[Case]:
    """Every registered method as it comes, or as a limit is stated for it; on short texts where it only runs copies."""
    limited = [case for case in LIMITED if case.method in METHODS]
    named = {case.method for case in limited}
    others = {name: method for name, method in METHODS.items() if name not in named}
    return [*limited, *(Case(name, SHORT if method.perturbs else N) for name, method in others.items())]


def costs(chosen: list[Case] | None = None) -> Iterator[Counted | Ratio]:
    """Matrix products, then time, of one case after another."""
    explainer = Explainer(bert_base(), lm_head=head_of(BertForMaskedLM(BertConfig()).eval(), "random"))
    for case in cases() if chosen is None else chosen:
        method, plain = _work(explainer, case), _plain(explainer, case)
        unit, counted = case.limit.unit, products(method)
        yield Counted(case.name, unit, counted / products(plain[unit]), case.limit.products)
        passes = counted / products(plain[FORWARD])
        rounds = next((rounds for most, rounds in ROUNDS if passes < most), 1)
        yield ratio(case.name, method, unit, plain[unit], limit=case.limit.time, rounds=rounds)


def _ids(length: int) -> torch.Tensor:
    return torch.randint(1000, 20000, (1, length), generator=torch.Generator().manual_seed(1))


def _work(explainer: Explainer, case: Case) -> Callable[[], object]:
    """One text explained."""
    masked = METHODS[case.method].needs_heads
    spec = {"method": case.method, **case.parameters, **({"head_mask": half_of_the_heads(explainer)} if masked else {})}
    ids = _ids(case.length)
    return lambda: explainer.scores_many(ids, methods={"m": spec}, target=1)


def _plain(explainer: Explainer, case: Case) -> dict[str, Callable[[], object]]:
    """The stock model: a forward, and a forward with a backward to the embeddings, parameters frozen."""
    model, ids = explainer.model, _ids(case.length)
    embedding = model.get_input_embeddings()

    def forward() -> object:
        with torch.no_grad():
            return model(ids)

    def both() -> object:
        words: list[torch.Tensor] = []
        model.requires_grad_(False)
        hook = embedding.register_forward_hook(lambda _m, _i, output: words.append(output.requires_grad_()))
        try:
            return torch.autograd.grad(model(ids).logits[0, 1], words)
        finally:
            hook.remove()
            model.requires_grad_(True)

    return {FORWARD: forward, BOTH: both}
