"""Attention of all texts, pass by pass, and what is summed over them: maps, how broad heads are, relevance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from attribution.explainer import Explainer
from attribution.heads.attention_importance import confidence, entropy, normalized_entropy
from attribution.heads.head_pass import HeadPass
from attribution.heads.maps import LENGTH, MeanAttention, maps_of
from attribution.heads.rows import Rows
from attribution.model.inputs import Inputs
from attribution.patterns.blocks import Predicate
from attribution.patterns.mass import TENSORS, PatternMass, joined, mass_of
from attribution.patterns.relevance import random_like
from pipeline.explore.session import Session

RANDOM_SEEDS = (0, 1, 2)  # of models with random weights
KEPT_BYTES = 2**29  # of attention: texts whose attention fits are read once, however many patterns are asked for
BREADTH = {"confidence": confidence, "entropy": entropy, "normalized_entropy": normalized_entropy}


@dataclass(frozen=True)
class Step:
    """How many texts of all are done, and what came of it once all are."""

    done: int
    total: int
    result: Any = None


@dataclass
class Passes:
    """The texts of a session as batches, with their attention; `model`: that of another model like the run's."""

    session: Session
    model: Explainer | None = None
    _kept: dict[int, list[Tensor]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[Sequence[int], Inputs, list[Tensor]]]:
        """Which texts are in each pass, their inputs [B, N] and their attention, L times [B, H, N, N]."""
        for number, batch in enumerate(self.session.batches):
            inputs = self.session.reopened.inputs([self.session.rows[row] for row in batch.rows], batch.length)
            with self.session.lock:  # not while the caller is busy: what comes next may be asked for by another thread
                attentions = self._attentions(number, inputs)
            yield batch.rows, inputs, attentions

    def order(self) -> Tensor:
        """[D] where each text stands in what the passes give, one after the other."""
        return torch.tensor([row for batch in self.session.batches for row in batch.rows]).argsort()

    def _attentions(self, number: int, inputs: Inputs) -> list[Tensor]:
        if number in self._kept:
            return self._kept[number]
        adapter = (self.model or self.session.explainer).adapter
        found = [each.cpu() for each in adapter.attentions(inputs)]
        if self._fits:
            self._kept[number] = found
        return found

    @property
    def _fits(self) -> bool:
        adapter = self.session.explainer.adapter
        if self.model is not None:
            return False
        weights = sum(len(batch.rows) * batch.length**2 for batch in self.session.batches)
        return weights * adapter.n_layers * adapter.n_heads * adapter.dtype.itemsize <= KEPT_BYTES


@dataclass(frozen=True)
class Survey:
    """What all heads do on all texts: mean maps, and how broad they attend, {name: [L, H]}."""

    maps: MeanAttention
    breadth: dict[str, Tensor]


def surveyed(passes: Passes) -> Iterator[Step]:
    """The survey, a step for each pass."""
    maps: MeanAttention | None = None
    found: dict[str, list[Tensor]] = {name: [] for name in BREADTH}
    total, done = len(passes.session.rows), 0
    length = min(LENGTH, max(batch.length for batch in passes.session.batches))
    for _, inputs, attentions in passes:
        own = maps_of(attentions, inputs.attention_mask.bool(), length)
        maps = own if maps is None else maps + own
        for name, value in _breadth(passes.session, inputs, attentions).items():
            found[name].append(value)
        done += inputs.shape[0]
        yield Step(done, total)
    assert maps is not None
    yield Step(total, total, Survey(maps, {name: torch.cat(each).mean(0) for name, each in found.items()}))


def _breadth(session: Session, inputs: Inputs, attentions: Sequence[Tensor]) -> dict[str, Tensor]:
    """{name: [B, L, H]}."""
    rows = Rows(session.explainer.adapter, inputs, None, 0, 0)
    found = HeadPass(rows, torch.empty(0), [], list(attentions), [])
    return {name: of(found) for name, of in BREADTH.items()}


def measured(passes: Passes, predicate: Predicate) -> Iterator[Step]:
    """The mass of every head under a predicate, document by document, a step for each pass."""
    parts: list[PatternMass] = []
    session = passes.session
    for numbers, inputs, attentions in passes:
        parts.append(mass_of(attentions, {"": predicate}, session.tokens(numbers, inputs)))
        yield Step(sum(map(len, parts)), len(session.rows))
    whole, order = joined(parts), passes.order()
    mass = PatternMass(whole.names, *(getattr(whole, name)[order] for name in TENSORS))
    yield Step(len(session.rows), len(session.rows), mass)


def measured_at_random(session: Session, predicate: Predicate) -> Iterator[Step]:
    """The same in models like the session's with new weights, one after the other; the result is a mass of each."""
    found: list[PatternMass] = []
    total = len(RANDOM_SEEDS) * len(session.rows)
    for number, seed in enumerate(RANDOM_SEEDS):
        with session.lock:
            model = Explainer(random_like(session.explainer.model, seed), session.explainer.tokenizer)
        for step in measured(Passes(session, model), predicate):
            if step.result is not None:
                found.append(step.result)
            yield Step(number * len(session.rows) + step.done, total)
    yield Step(total, total, tuple(found))
