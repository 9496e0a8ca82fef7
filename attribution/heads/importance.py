"""How much each attention head matters to what the model says, by any of several definitions, from shared passes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from attribution.errors import InputError
from attribution.heads.head_pass import head_pass
from attribution.heads.importance_methods import CHOICES, IMPORTANCES, ImportanceMethod
from attribution.heads.roles import IMPORTANCE
from attribution.heads.rows import rows_of
from attribution.heads.scores import HeadScores
from attribution.heads.totals import Units
from attribution.model.adapter import ModelAdapter
from attribution.model.families import ReadOut

if TYPE_CHECKING:
    from attribution.explainer import Explainer


@dataclass(frozen=True)
class Importance:
    """Importance of every head, with what it was computed from; larger matters more, below 0 does harm."""

    method: ImportanceMethod
    params: dict[str, Any]
    units: Units

    @cached_property
    def scores(self) -> Tensor:
        """[L, H] float64."""
        return self.of(torch.ones(len(self.units.values), dtype=torch.float64))

    @cached_property
    def interval(self) -> Tensor:
        """[L, H, 2] 95 % bootstrap interval over examples, over batches where the method is of batches."""
        return self.units.resampled(self.method.finish)

    @property
    def per_example(self) -> Tensor:
        """[U, L, H] values before they are summed; for methods of batches those of each batch."""
        return self.units.values

    def of(self, weights: Tensor) -> Tensor:
        """[..., L, H] scores of a sample: how often each unit is in it, [U] or [R, U]."""
        return self.method.finish(self.units.totals(weights.double()))


def head_importance(
    explainer: Explainer, batches: Iterable[Mapping[str, Tensor]], *, method: str = "gate_grad", **params: Any
) -> Tensor:
    """Importance [L, H] of every attention head by one method, see `head_importances`."""
    return head_importances(explainer, batches, methods={method: {"method": method, **params}})[method].scores


def head_importances(
    explainer: Explainer,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    methods: Iterable[str] | Mapping[str, str | Mapping[str, Any]],
) -> dict[str, Importance]:
    """Importances by label, all from one pass over the batches: ids, or labels with an id or {method, **parameters}.

    The loss is of `labels` [B], or `start_positions` and `end_positions`, where batches have them, else of what the
    model itself predicts. Results do not depend on how examples are batched, except those of `gate_grad_batch`.
    """
    asked = requested(methods)
    found = head_values(explainer, batches, methods=methods)
    return {label: importance_of(spec, found[label]) for label, spec in asked.items()}


@dataclass(frozen=True)
class HeadValues:
    """What a method gives for every example, before anything is summed; values of more examples can be added."""

    values: Tensor  # [B, L, H] float64, signed
    tokens: Tensor  # [B]
    batch: Tensor  # [B] the number of the batch that each was in
    reads_first: bool  # what is explained reads the first token of the last layer alone


def head_values(
    explainer: Explainer,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    methods: Iterable[str] | Mapping[str, str | Mapping[str, Any]],
) -> dict[str, HeadValues]:
    """What `head_importances` sums up, by label; `importance_of` makes the importance of it, wherever it was kept."""
    requests = {label: _Request.of(spec) for label, spec in requested(methods).items()}
    rows = list(rows_of(explainer, batches))
    if not rows:
        raise InputError("conf error: heads: there is no text to find important heads on; give at least one batch.")
    readers = {label: each.method.reader(rows, **each.params) for label, each in requests.items()}
    found: dict[str, list[Tensor]] = {label: [] for label in requests}
    parameters = any(each.method.parameters for each in requests.values())
    for each in rows:
        one = head_pass(each, parameters=parameters)
        for label, read in readers.items():
            found[label].append(read(one).detach().double().cpu())
    tokens = torch.cat([each.visible.sum(1).cpu() for each in rows])
    batch = torch.cat([torch.full((len(each.visible),), each.batch) for each in rows])
    first = _reads_first(explainer.adapter)
    return {label: HeadValues(torch.cat(values), tokens, batch, first) for label, values in found.items()}


def importance_of(spec: str | Mapping[str, Any], found: HeadValues) -> Importance:
    """The importance that a method, by id or as {method, **parameters}, makes of its values."""
    request = _Request.of(spec)
    tokens = found.tokens.double()
    units = Units(found.values, torch.ones_like(tokens), tokens, found.reads_first)
    if request.method.by_batch:
        units = units.by_batch(found.batch)
    if request.method.magnitude:
        units = Units(units.values.abs(), units.examples, units.tokens, units.reads_first)
    return Importance(request.method, request.params, units)


def as_scores(found: Mapping[str, Importance]) -> HeadScores:
    """Importances as roles `importance:LABEL` of every head, none of which is selected: head masks take the top."""
    named = {f"{IMPORTANCE}:{label}": each for label, each in found.items()}
    return HeadScores(
        scores={role: each.scores for role, each in named.items()},
        baseline=dict.fromkeys(named, float("nan")),
        count={role: len(each.per_example) for role, each in named.items()},
        selected={role: torch.zeros(each.scores.shape, dtype=torch.bool) for role, each in named.items()},
        report=dict.fromkeys(named),
        intervals={role: each.interval for role, each in named.items()},
    )


def needs_all_texts(spec: str | Mapping[str, Any]) -> bool:
    """Whether the values of one example depend on the others: what replaces a head is the mean of all, say."""
    return bool(_Request.of(spec).params.get("ablation", "zero") != "zero")


def check_importance(spec: str | Mapping[str, Any]) -> None:
    """Raise `InputError` for a method or parameters that do not exist."""
    _Request.of(spec)


def requested(methods: Iterable[str] | Mapping[str, str | Mapping[str, Any]]) -> Mapping[str, str | Mapping[str, Any]]:
    """Methods by label; an id is its own."""
    return methods if isinstance(methods, Mapping) else {method: method for method in methods}


@dataclass(frozen=True)
class _Request:
    method: ImportanceMethod
    params: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: str | Mapping[str, Any]) -> _Request:
        params = {"method": spec} if isinstance(spec, str) else dict(spec)
        name = params.pop("method", None)
        if name not in IMPORTANCES:
            raise InputError(f"conf error: importance={name} is not a method. Choose one of: {', '.join(IMPORTANCES)}.")
        method = IMPORTANCES[name]
        for key, value in params.items():
            _check(method, key, value)
        return cls(method, params)


def _check(method: ImportanceMethod, key: str, value: Any) -> None:
    if key not in method.options:
        known = ", ".join(method.options) or "none"
        raise InputError(f"conf error: importance.{key}={value}: {method.id} has no such parameter; it has: {known}.")
    if key in CHOICES and value not in CHOICES[key]:
        raise InputError(f"conf error: importance.{key}={value} is not known; choose {', '.join(CHOICES[key])}.")
    if key == "steps" and (not isinstance(value, int) or value < 1):
        raise InputError(f"conf error: importance.steps={value} is not a number of steps; give 1 or more.")


def _reads_first(adapter: ModelAdapter) -> bool:
    return adapter.task == "classification" and adapter.pooling is ReadOut.FIRST
