"""What the page asks the model: each a function of a session and a request that was checked."""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attribution.errors import InputError
from attribution.heads.maps import LENGTH, without, word_map
from attribution.patterns import PatternRelevance, evaluate
from attribution.patterns.blocks import Predicate
from attribution.patterns.predicates import write_predicate
from attribution.patterns.relevance import TIMES_UNIFORM
from pipeline.explore.asked import Extremes, Measure, Where
from pipeline.explore.changes import Workshop
from pipeline.explore.heads import breadth_metrics, finite, grid, offsets
from pipeline.explore.passes import Passes, Step, Survey, measured, measured_at_random, surveyed
from pipeline.explore.session import Session, half
from pipeline.keys import digest

KEPT_PREDICATES = 64  # whose relevance is remembered
SHOWN = 5  # texts at either end
LEVELS = ("token", "word")


@dataclass
class Desk:
    """A session with what was computed of it."""

    session: Session
    survey: Survey | None = None
    _relevance: OrderedDict[str, PatternRelevance] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.passes, self.workshop = Passes(self.session), Workshop(self.session)

    def look(self) -> Iterator[Step]:
        """The survey of all texts."""
        if self.survey is None:
            for step in surveyed(self.passes):
                if step.result is None:
                    yield step
                else:
                    self.survey = step.result
        assert self.survey is not None
        total, maps = len(self.session.rows), self.survey.maps
        result = {"size": maps.pairs.shape[0], "offsets": offsets(self.survey), "metrics": breadth_metrics(self.survey)}
        yield Step(total, total, result)

    def maps(self) -> bytes:
        """Mean maps of all heads [L, H, M, M] as float16."""
        if self.survey is None:
            raise InputError("the maps are not there yet; ask for the survey first.")
        return half(self.survey.maps.mean)

    def maps_of_text(self, document: int) -> bytes:
        """Maps of all heads [L, H, M, M] on one text as float16, its first positions where it is longer."""
        return half(torch.stack([each[:, :LENGTH, :LENGTH] for each in self.session.attention(document)]))

    def attention(
        self, document: int, layer: int, head: int, *, level: str, specials: bool, renormalise: bool
    ) -> Tensor:
        """[N, N] of one head on one text, [W, W] by words; special tokens may be left out."""
        _, number = self.session.head(layer, head)
        attention = self.session.attention(document)[layer][number].double()
        words = self.session.words(document)
        hidden = words < 0
        if level == "word":
            attention = word_map(attention, words)
            hidden = units_hidden(words)
        return attention if specials else without(attention, hidden, renormalise=renormalise)

    def measure(self, asked: Measure) -> Iterator[Step]:
        """The relevance of a predicate for every head."""
        for step in self._measured(asked.predicate, random=asked.random):
            if step.result is None:
                yield step
            else:
                yield Step(step.done, step.total, _told(over(step.result, asked.queries)))

    def extremes(self, asked: Extremes) -> dict[str, Any]:
        """The texts that agree with a predicate most and least in one head."""
        head = self.session.head(asked.layer, asked.head)
        *_, last = self._measured(asked.predicate)
        found = over(last.result, asked.queries)
        best, worst = (found.documents("", head, highest=highest, count=SHOWN) for highest in (True, False))
        return {"best": best, "worst": worst}

    def where(self, asked: Where) -> dict[str, Any]:
        """Where a predicate holds in one text: bits [N, N], and of each query its mass in one head."""
        layer, head = self.session.head(asked.layer, asked.head)
        row = self.session.row(asked.document)
        self.session.check(asked.predicate)
        inputs = self.session.reopened.inputs([row])
        holds = evaluate([asked.predicate], self.session.tokens([asked.document], inputs))[0, 0]
        mass = (self.session.attention(asked.document)[layer][head].double() * holds).sum(-1)
        bits = np.packbits(holds.numpy().reshape(-1), bitorder="little").tobytes()
        return {"holds": base64.b64encode(bits).decode("ascii"), "mass": [finite(each) for each in mass.tolist()],
                "mean": finite(float(mass.mean()))}  # fmt: skip

    def _measured(self, predicate: Predicate, *, random: bool = False) -> Iterator[Step]:
        """What is not remembered is measured; the last step has a `PatternRelevance`, over all queries."""
        self.session.check(predicate)
        key, total = digest(write_predicate(predicate)), len(self.session.rows)
        if key not in self._relevance:
            for step in measured(self.passes, predicate):
                if step.result is not None:
                    self._remember(key, PatternRelevance(step.result))
                yield replace(step, result=None)
        found = self._relevance[key]
        if random and not found.random:
            for step in measured_at_random(self.session, predicate):
                if step.result is not None:
                    self._remember(key, found := PatternRelevance(found.mass, step.result))
                yield replace(step, result=None)
        yield Step(total, total, found)

    def _remember(self, key: str, found: PatternRelevance) -> None:
        self._relevance[key] = found
        while len(self._relevance) > KEPT_PREDICATES:
            self._relevance.popitem(last=False)


def over(found: PatternRelevance, queries: str) -> PatternRelevance:
    """The same measurement, over other queries."""
    return PatternRelevance(found.mass, found.random, queries)


def units_hidden(words: Tensor) -> Tensor:
    """Bool, by the units of `word_map`: those that are special tokens."""
    seen: dict[int, bool] = {}
    for place, word in enumerate(words.tolist()):
        seen.setdefault(word if word >= 0 else -1 - place, word < 0)
    return torch.tensor(list(seen.values()))


def _told(found: PatternRelevance) -> dict[str, Any]:
    applies = ~found.mass.over(found.queries)[1].isnan()
    uniform = float(found.uniform[0])
    return {
        "scores": grid(found.scores[0]), "errors": grid(found.standard_error[0]), "uniform": finite(uniform),
        "times_uniform": finite(TIMES_UNIFORM * uniform), "heads_bar": finite(float(found.heads_bar[0])),
        "random_bar": finite(float(found.random_bar[0])),
        "significant": found.significant[0].tolist() if found.random else None,
        "texts": len(found.mass), "applies": int(applies.sum()), "queries": found.queries,
    }  # fmt: skip
