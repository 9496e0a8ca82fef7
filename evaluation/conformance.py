"""What every metric owes its users, as a kit: point it at a metric and read what is wrong.

`check_metric("aopc")`, or a `Metric` of your own. Metrics that need perturbed copies are run on a model that adds up
one weight for each token, and must rank its weights above the opposite order. Values known by hand are `cases`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from attribution.model.inputs import Inputs
from evaluation.analytic import CLS, FIRST_WORD, UNK, BagOfTokens, text_batch
from evaluation.engine import perturbable_tokens
from evaluation.metric import CATEGORIES, Metric, find_metric
from evaluation.suite import evaluate_all

EXACT = 1e-9
LENGTHS = (7, 5, 9, 6, 8, 3, 1, 0)  # words; of the last two texts much is undefined
CHANGES = ("input_distance", "input_change", "output_change", "representation_change")  # of neighbours
SAMPLES = 6  # texts that are compared: the first ones


@dataclass(frozen=True)
class Case:
    """What a metric is called with, and the value each example must have; NaN where it must be undefined."""

    given: Mapping[str, Any]
    expected: Sequence[float]
    within: float = EXACT


def check_metric(
    metric: str | Metric,
    *,
    cases: Sequence[Case] = (),
    given: Mapping[str, Any] | None = None,
    direction: bool = True,
) -> list[str]:
    """What is wrong with a metric, as sentences; none: it conforms.

    given: what it needs that the kit does not know, a tensor [8, ...] for the kit's eight texts or a single value.
    direction: whether it has to tell the weights of an additive model from the opposite order.
    """
    found = find_metric(metric)
    bench = _Bench(found, dict(given or {}))
    problems = [*_declared(found)]
    unknown = [need for need in found.needs if need not in bench.known and need not in found.prepared]
    if unknown:
        problems.append(f"needs {', '.join(unknown)}, which the kit does not know; pass given={{...}}")
    elif not problems:
        try:
            problems += _output(bench)
            if bench.plain.shape == (len(LENGTHS),):
                problems += [problem for check in CHECKS for problem in check(bench)]
                problems += _direction(bench) if direction else ()
        except Exception as error:
            problems.append(f"raises {type(error).__name__}: {error}")
    return problems + [problem for case in cases for problem in _case(found, case)]


@dataclass
class _Bench:
    """A metric and eight texts: ties, different lengths, one of a single word and one of none."""

    metric: Metric
    given: dict[str, Any]

    @cached_property
    def model(self) -> BagOfTokens:
        """The additive model, of a task the metric is for."""
        return BagOfTokens(_weights(), task=self.metric.tasks[0] if self.metric.tasks else "classification")

    @cached_property
    def inputs(self) -> Inputs:
        """The texts, padded on the right."""
        generator = torch.Generator().manual_seed(3)
        words = [torch.randperm(12, generator=generator)[:n] + FIRST_WORD for n in LENGTHS]
        return text_batch([own.tolist() for own in words])

    @cached_property
    def known(self) -> dict[str, Any]:
        """What metrics may need besides copies."""
        ids = self.inputs.input_ids
        tokens = perturbable_tokens(self.model, self.inputs)  # type: ignore[arg-type]
        rationale = (ids % 3 == 0) & tokens
        neighbours = torch.stack([self.good.roll(by, 1) for by in (1, 2)], 1)
        spans = torch.stack((torch.ones(len(ids)), (tokens.sum(1) + 1) // 2), 1).long()
        samples = {
            "scores": self.good, "tokens": tokens, "rationale": rationale, "rationale_length": 2, "answers": spans,
            "neighbours": neighbours, "randomised": neighbours, "reruns": neighbours, "other_class": self.bad,
            "other_dtype": self.bad, "shuffled": self.bad, "same_class": torch.ones(len(ids), 2, dtype=torch.bool),
        }  # fmt: skip
        changes = dict.fromkeys(CHANGES, torch.ones(len(ids), 2))
        return {**samples, **changes, **self.given}

    @cached_property
    def good(self) -> Tensor:
        """The weights themselves: what the model makes of each token."""
        if self.metric.category == "plausibility":
            return (self.inputs.input_ids % 3 == 0).double() + self.inputs.input_ids / 100
        return self.model.weights[self.inputs.input_ids]

    @cached_property
    def bad(self) -> Tensor:
        """The same in the opposite order, none of them negative."""
        return self.good.max() + self.good.min() - self.good

    def values(self, scores: Tensor | None = None, rows: Tensor | None = None, extra: int = 0) -> Tensor:
        """Of scores, on these rows of the batch, with so many columns of padding more: [B]."""
        at = torch.arange(len(LENGTHS)) if rows is None else rows
        shape = self.inputs.shape
        known = {**self.known, "scores": self.known["scores"] if scores is None else scores}
        inputs = {name: _widened(value, at, shape, extra) for name, value in self.inputs.present().items()}
        return self.run({name: _widened(value, at, shape, extra) for name, value in known.items()}, inputs)[0]

    def run(self, known: dict[str, Any], inputs: dict[str, Tensor]) -> list[Tensor]:
        """The metric of what is known, twice from one run."""
        given = {name: value for name, value in known.items() if name != "scores"}
        twice = [self.metric, replace(self.metric, id=f"{self.metric.id} again")]
        target = None if self.model.task == "question_answering" else 1
        options: dict[str, Any] = {"metrics": twice, "target": target, "given": given, **inputs}
        found = evaluate_all(self.model, scores={"": known["scores"]}, **options)  # type: ignore[arg-type]
        return [found.values[""][metric.id] for metric in twice]

    @cached_property
    def plain(self) -> Tensor:
        """Of the good scores, all texts together."""
        return self.values()


def _weights() -> Tensor:
    """CLS decides by itself for class 1; words speak for it, the later in the vocabulary the more."""
    weights = torch.zeros(FIRST_WORD + 12, dtype=torch.float64)
    weights[CLS] = 0.28125
    weights[UNK] = 0.0078125  # or a text of nothing but unknown words would have an infinite logit
    weights[FIRST_WORD:] = torch.arange(1, 13) * 0.0078125  # exact in binary
    return weights


def _widened(value: Any, rows: Tensor, shape: tuple[int, int], extra: int) -> Any:
    """Rows of a tensor [B, ...], its last dimension padded where that is N."""
    if not isinstance(value, Tensor) or not value.dim() or len(value) != shape[0]:
        return value
    wide = extra if value.dim() > 1 and value.shape[-1] == shape[1] else 0
    return torch.nn.functional.pad(value[rows], (0, wide))


def _declared(metric: Metric) -> Iterator[str]:
    """What the entry says of itself."""
    low, high = metric.range
    if not low < high:
        yield f"has the range {metric.range}, whose ends do not ascend"
    if metric.category not in CATEGORIES:
        yield f"is of category {metric.category}; choices: {', '.join(CATEGORIES)}"
    for name in ("formula", "source"):
        if not getattr(metric, name):
            yield f"states no {name}"
    accepted = list(inspect.signature(metric.compute).parameters)
    if missing := [need for need in metric.needs if need not in accepted]:
        yield f"needs {', '.join(missing)}, but computes from {', '.join(accepted)}"
    if stray := [name for name in metric.prepared if name not in metric.needs]:
        yield f"has {', '.join(stray)} prepared, which it does not need"


def _output(bench: _Bench) -> Iterator[str]:
    values, n = bench.plain, len(LENGTHS)
    if values.shape != (n,):
        yield f"returns shape {list(values.shape)} for {n} examples"
        return
    low, high = bench.metric.range
    outside = values[(values < low - EXACT) | (values > high + EXACT)]
    if len(outside):
        yield f"returns {float(outside[0]):.4g}, outside of its range {bench.metric.range}"
    if bool(values.isnan().all()):
        yield "is undefined for every example"


def _batches(bench: _Bench) -> Iterator[str]:
    """The same digits alone, in another order, in shards and with more padding."""
    every = torch.arange(len(LENGTHS))
    splits = {"alone": every.split(1), "in shards": every.split(3), "in another order": [every.flip(0)]}  # type: ignore[no-untyped-call]
    for how, parts in splits.items():
        for rows in parts:
            if not _same(bench.values(rows=rows), bench.plain[rows]):
                yield f"gives other values {how}: {bench.values(rows=rows).tolist()}, not {bench.plain[rows].tolist()}"
                break
    if not _same(bench.values(extra=3), bench.plain):
        yield "gives other values with more padding"


def _left_alone(bench: _Bench) -> Iterator[str]:
    """What it is given stays as it is."""
    known = {name: value.clone() if isinstance(value, Tensor) else value for name, value in bench.known.items()}
    before = {name: value.clone() for name, value in known.items() if isinstance(value, Tensor)}
    first, second = bench.run(known, bench.inputs.present())
    if changed := [name for name, value in before.items() if not _same(value, known[name])]:
        yield f"changes the {', '.join(changed)} it is given"
    elif not _same(first, second):
        yield "changes what it is computed from, or gives other values the second time"


def _undefined(bench: _Bench) -> Iterator[str]:
    """A score that is not a number spoils its own example alone."""
    if "scores" not in bench.metric.needs and not bench.metric.prepared:
        return
    spoilt = bench.good.clone()
    spoilt[1, 2] = torch.nan
    values = bench.values(spoilt)
    if not bool(values[1].isnan()):
        yield f"gives {float(values[1]):.4g} for scores with a NaN among them, not NaN"
    others = torch.arange(len(LENGTHS)) != 1
    if not _same(values[others], bench.plain[others]):
        yield "lets a NaN among one example's scores change other examples"


def _direction(bench: _Bench) -> Iterator[str]:
    """The model's own weights are better than the opposite order, and than nothing at all."""
    if bench.metric.category not in ("faithfulness", "plausibility"):
        return
    good, bad = bench.plain[:SAMPLES], bench.values(bench.bad)[:SAMPLES]
    both = ~good.isnan() & ~bad.isnan()
    sign = 1 if bench.metric.higher_is_better else -1
    gain = sign * (good - bad)[both]
    if not len(gain) or float(gain.mean()) <= 0:
        yield (
            f"does not tell a right explanation from its opposite: {good.tolist()} for the weights of an additive "
            f"model, {bad.tolist()} for the opposite order"
        )


def _case(metric: Metric, case: Case) -> Iterator[str]:
    expected = torch.tensor(case.expected, dtype=torch.float64)
    try:
        values = metric(**case.given).double()
    except Exception as error:
        yield f"raises {type(error).__name__}: {error}, where {case.expected} is right"
        return
    near = (values - expected).abs() <= case.within if values.shape == expected.shape else torch.tensor([False])
    if values.shape != expected.shape or not bool((near | (values.isnan() & expected.isnan())).all()):
        yield f"gives {values.tolist()} where {list(case.expected)} is right"


def _same(a: Tensor, b: Tensor) -> bool:
    return bool(torch.equal(a.nan_to_num(-7.25), b.nan_to_num(-7.25)))


CHECKS: tuple[Callable[[_Bench], Iterator[str]], ...] = (_batches, _left_alone, _undefined)
