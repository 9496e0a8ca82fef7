"""Any metrics of any methods on a batch, from one run in which no perturbed input comes twice."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from attribution.errors import InputError
from attribution.model.inputs import Inputs
from attribution.passes import PassCounts
from attribution.targets import TargetLike
from evaluation.curves import Curves
from evaluation.engine import Request, perturbable_tokens, run_requests
from evaluation.levels import TENTHS, Levels
from evaluation.metric import Metric
from evaluation.metrics import CURVES, find_metric
from evaluation.removals import REMOVALS, Removals
from evaluation.resampling import Resampler

if TYPE_CHECKING:
    from attribution.explainer import Explainer


@dataclass(frozen=True)
class Evaluation:
    """values: of each method and metric, float64 [B]; NaN where undefined.

    passes: `requested` is what every method and metric would have run by itself, `distinct` what was run; in words
    `passes.saved`.
    """

    values: dict[str, dict[str, Tensor]]
    passes: PassCounts

    @property
    def undefined(self) -> dict[str, dict[str, int]]:
        """How many examples a metric has no value for."""
        return {
            label: {metric: int(values.isnan().sum()) for metric, values in own.items()}
            for label, own in self.values.items()
        }


def evaluate_all(
    explainer: Explainer,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    scores: Mapping[str, Tensor],
    metrics: Sequence[str | Metric],
    *,
    target: TargetLike = None,
    levels: Levels = TENTHS,
    operator: str | None = None,
    unit: str = "token",
    aggregation: str = "sum",
    seed: int = 0,
    given: Mapping[str, Any] | None = None,
    batch_tokens: int | None = None,
    resampler: Resampler | None = None,
    **rest: Tensor | None,
) -> Evaluation:
    """The metrics of each explanation {label: scores [B, N]}.

    levels: of metrics that have none of their own. operator, unit, aggregation: see `CurveRequest`. given: what else
    metrics need, such as `rationale`. resampler: for the operator `mlm_resample`. rest: token_type_ids, position_ids,
    special_tokens_mask, word_ids, sentence_ids.
    """
    inputs = Inputs.of(input_ids, attention_mask, **rest)
    how = _How(levels, operator, unit, aggregation, seed)
    found = [find_metric(metric) for metric in metrics]
    tokens = perturbable_tokens(explainer.adapter, inputs)
    about = {"tokens": tokens, "attention_mask": inputs.attention_mask, "special_tokens_mask": ~tokens}
    known = {**about, **(given or {})}
    _check(found, known, explainer.adapter.task)
    requests = {
        key: request for label in scores for metric in found for key, request in how.requests(metric, label, scores)
    }
    options: dict[str, Any] = {"target": target, "batch_tokens": batch_tokens, "resampler": resampler}
    run = run_requests(explainer, inputs, requests, **options) if requests else {}
    values = {
        label: {metric.id: _value(metric, label, {**known, "scores": scores[label]}, run) for metric in found}
        for label in scores
    }
    return Evaluation(values, _cost(found, scores, run, len(input_ids)))


@dataclass(frozen=True)
class _How:
    """What all requests of a suite have in common."""

    levels: Levels
    operator: str | None
    unit: str
    aggregation: str
    seed: int

    def requests(self, metric: Metric, label: str, scores: Mapping[str, Tensor]) -> list[tuple[_Key, Request]]:
        """What a metric of a method needs of the engine."""
        return [(_key(source, label), self.request(source, scores[label])) for source in metric.prepared.values()]

    def request(self, source: str, scores: Tensor) -> Request:
        """A curve family or removal set."""
        about: dict[str, Any] = {"unit": self.unit, "aggregation": self.aggregation}
        if source in CURVES:
            return replace(CURVES[source].request(scores, self.levels, self.operator), **about)
        return replace(REMOVALS[source], operator=self.operator, seed=self.seed, **about)


_Key = tuple[str, str | None]


def _key(source: str, label: str) -> _Key:
    """Curves are a method's own; what is removed without asking it serves all."""
    return source, label if source in CURVES else None


def _check(metrics: Sequence[Metric], known: Mapping[str, Any], task: str) -> None:
    for metric in metrics:
        if metric.tasks and task not in metric.tasks:
            raise InputError(f"metric={metric.id} is for {', '.join(metric.tasks)}, not for {task}")
        absent = [need for need in metric.needs if need not in {"scores", *metric.prepared, *known}]
        if absent:
            raise InputError(f"metric={metric.id} needs {', '.join(absent)}; hand it over in given={{...}}")


def _value(metric: Metric, label: str, known: Mapping[str, Any], run: Mapping[_Key, Any]) -> Tensor:
    prepared = {name: run[_key(source, label)] for name, source in metric.prepared.items()}
    accepted = inspect.signature(metric.compute).parameters
    arguments = {name: value for name, value in {**known, **prepared}.items() if name in accepted}
    return metric(**arguments).double().cpu()


def _cost(metrics: Sequence[Metric], scores: Mapping[str, Tensor], run: Mapping[_Key, Any], rows: int) -> PassCounts:
    if not run:
        return PassCounts()
    alone = sum(
        rows + sum(_copies(run[_key(source, label)]) for source in metric.prepared.values())
        for label in scores
        for metric in metrics
        if metric.prepared
    )
    passes: PassCounts = next(iter(run.values())).passes
    return replace(passes, requested=alone)


def _copies(result: Curves | Removals) -> int:
    return result.counts.numel() if isinstance(result, Curves) else int(result.asked.sum())
