"""What becomes of predictions and explanations once a person has changed some heads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from attribution.capture import Need
from attribution.errors import InputError
from attribution.explainer import Explainer
from attribution.methods import METHODS, Method
from attribution.patterns.interventions import gated_heads, patterned, sees_gates
from attribution.patterns.reading import hint
from attribution.patterns.schema import Head, Pattern
from pipeline.explore.asked import Change, Changes
from pipeline.explore.passes import Step
from pipeline.explore.session import Session
from pipeline.in_place import TINY
from pipeline.keys import digest
from pipeline.reopened import Row, as_it_ran

KEPT_MODELS = 3  # with patterns in their heads


@dataclass
class Workshop:
    """The model of a session beside copies of it whose heads follow patterns."""

    session: Session
    _made: OrderedDict[str, Explainer] = field(default_factory=OrderedDict)
    _base: dict[int, dict[str, Any]] = field(default_factory=dict)

    @cached_property
    def methods(self) -> dict[str, dict[str, Any]]:
        """What texts are explained by at once: methods of the run as they ran, then all others of no great cost."""
        entries = self.session.run.manifest.get("methods") or {}
        own = {label: as_it_ran(entry) for label, entry in entries.items() if _is_cheap(METHODS.get(entry["method"]))}
        known = {entry["method"] for entry in own.values()}
        others = {each.id: {"method": each.id} for each in METHODS.values() if each.id not in known and _is_cheap(each)}
        return own | others

    def compare(self, asked: Change) -> dict[str, Any]:
        """One text before and after: what is predicted, and the explanation of what was predicted before."""
        if asked.method not in self.methods:
            raise InputError(f"method={asked.method} is not offered here.{hint(asked.method, self.methods)}")
        session, method = self.session, self.methods[asked.method]
        self._check(asked)
        row = session.row(asked.document)
        with session.lock:
            changed = self._with_patterns(asked.patterns)
            before = session.reopened.predicted(session.explainer, [row])
            target = before["predicted"][0], before["predicted_end"][0]
            found = {"before": self._told(session.explainer, row, target, method)}
            with gated_heads(changed.adapter, asked.gates), session.following([asked.document], len(row["input_ids"])):
                found["after"] = self._told(changed, row, target, method)
        return {**found, "target": target[0], "target_end": target[1], "signed": METHODS[method["method"]].signed}

    def sample(self, asked: Changes) -> Iterator[Step]:
        """Over all texts: the share of unchanged decisions, and the relative entropy of what was predicted, in nats."""
        session, same, divergence = self.session, [], []
        self._check(asked)
        for number, batch in enumerate(session.batches):
            rows = [session.rows[row] for row in batch.rows]
            with session.lock:
                if number not in self._base:
                    self._base[number] = session.reopened.predicted(session.explainer, rows, batch.length)
                changed = self._with_patterns(asked.patterns)
                with gated_heads(changed.adapter, asked.gates), session.following(batch.rows, batch.length):
                    after = session.reopened.predicted(changed, rows, batch.length)
            before = self._base[number]
            same += [_decision(before, at) == _decision(after, at) for at in range(len(rows))]
            divergence += _divergence(before["probabilities"], after["probabilities"])
            yield Step(len(same), len(session.rows))
        result = {"same_decision": float(np.mean(same)), "divergence": float(np.mean(divergence)), "texts": len(same)}
        yield Step(len(same), len(session.rows), result)

    def _told(self, explainer: Explainer, row: Row, target: tuple[int, int | None], method: Row) -> dict[str, Any]:
        found = self.session.reopened.predicted(explainer, [row])
        scores = self.session.reopened.scores(explainer, row, target, method)
        told = {name: found[name][0] for name in ("predicted", "predicted_end", "probabilities", "logits")}
        return {**told, "scores": scores.tolist()}

    def _check(self, asked: Changes) -> None:
        for pattern in asked.patterns.values():
            self.session.check(pattern.pred)

    def _with_patterns(self, patterns: Mapping[Head, Pattern]) -> Explainer:
        """The model with patterns, made once; the latest few are kept."""
        if not patterns:
            return self.session.explainer
        key = digest([[*head, pattern.plain()] for head, pattern in sorted(patterns.items(), key=lambda each: each[0])])
        if key not in self._made:
            self._made[key] = patterned(self.session.explainer, patterns)
        self._made.move_to_end(key)
        while len(self._made) > KEPT_MODELS:
            self._made.popitem(last=False)
        return self._made[key]


def _is_cheap(method: Method | None) -> bool:
    """One forward and what goes back through it, in which gates of heads are seen; no decoder of layers is needed."""
    if method is None or method.asks or method.control:
        return False
    return sees_gates(method) and Need.LAYER_GRADIENT not in method.needs


def _decision(found: Mapping[str, Any], at: int) -> tuple[Any, Any]:
    return found["predicted"][at], found["predicted_end"][at]


def _divergence(before: Any, after: Any) -> list[float]:
    own, other = (np.asarray(each, dtype=np.float64).clip(TINY) for each in (before, after))
    found: list[float] = (own * np.log(own / other)).sum(1).tolist()
    return found
