"""Slices of the examples: where a method does worse than elsewhere, corrected for having looked at many places."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit  # type: ignore[import-untyped]

from attribution.errors import InputError
from evaluation.statistics.moments import Bools, Floats, Ints, moments, t_statistic
from evaluation.statistics.p_values import holm, t_test
from evaluation.statistics.values import ValueTable

SMALLEST = 10  # examples with a value, inside and outside: below, a slice is listed but not judged
UNKNOWN = "unknown"
NEGATION = re.compile(
    r"\b(?:not|no|never|none|nobody|nothing|nowhere|neither|nor|cannot|without)\b|n['’]t\b", re.IGNORECASE
)


def has_negation(text: str) -> bool:
    """Whether an English text negates, by its words."""
    return NEGATION.search(text) is not None


def quantile_slices(name: str, numbers: Mapping[str, float], parts: int = 4) -> dict[str, frozenset[str]]:
    """Ids by quantiles of a number they have: length, confidence. Equal numbers stay together, maybe in fewer parts."""
    known = {item: number for item, number in numbers.items() if not np.isnan(number)}
    unknown = frozenset(numbers.keys() - known.keys())
    values = np.array(list(known.values()), dtype=np.float64)
    edges = np.unique(np.quantile(values, np.linspace(0, 1, parts + 1))) if len(values) else values
    places = np.clip(np.searchsorted(edges, values, side="left") - 1, 0, None)
    found: dict[str, set[str]] = {}
    for place, item in sorted(zip(places.tolist(), known, strict=True)):
        low, high = edges[place], edges[min(place + 1, len(edges) - 1)]
        found.setdefault(f"{name} {'[' if place == 0 else '('}{low:.4g}, {high:.4g}]", set()).add(item)
    slices = {label: frozenset(members) for label, members in found.items()}
    return {**slices, f"{name} {UNKNOWN}": unknown} if unknown else slices


def category_slices(name: str, categories: Mapping[str, object]) -> dict[str, frozenset[str]]:
    """Ids by a category they have: class, correctness, truncation, negation. None is unknown."""
    found: dict[str, set[str]] = {}
    for item, category in categories.items():
        found.setdefault(f"{name} {UNKNOWN if category is None else category}", set()).add(item)
    return {label: frozenset(found[label]) for label in sorted(found)}


@dataclass(frozen=True)
class ExampleFacts:
    """What an example is sliced by."""

    text: str
    length: int  # tokens
    confidence: float  # probability of the predicted class
    predicted: str
    label: str | None
    truncated: bool


def standard_slices(facts: Mapping[str, ExampleFacts]) -> dict[str, frozenset[str]]:
    """By length, confidence, correctness, class, truncation and negation. `facts` by id."""
    categories: dict[str, dict[str, object]] = {
        "prediction": {i: None if f.label is None else _RIGHT[f.predicted == f.label] for i, f in facts.items()},
        "class": {i: f.label for i, f in facts.items()},
        "truncated": {i: _YES[f.truncated] for i, f in facts.items()},
        "negation": {i: _YES[has_negation(f.text)] for i, f in facts.items()},
    }
    slices = quantile_slices("length", {i: float(f.length) for i, f in facts.items()})
    slices |= quantile_slices("confidence", {i: f.confidence for i, f in facts.items()})
    for name, category in categories.items():
        slices |= category_slices(name, category)
    return slices


_RIGHT = {True: "right", False: "wrong"}
_YES = {True: "yes", False: "no"}


@dataclass(frozen=True)
class SliceFinding:
    """A method's mean inside a slice and outside. `difference` is inside minus outside, its interval simultaneous over
    all slices that were looked at; P by Welch's test, adjusted by Holm. NaN where a side is too small to be judged.
    """

    method: str
    metric: str
    slice: str
    inside: float
    outside: float
    difference: float
    low: float
    high: float
    p: float
    adjusted: float
    n: int
    n_outside: int
    n_undefined: int  # examples of the slice without a value
    worse: bool  # after Holm


def slice_findings(
    table: ValueTable, slices: Mapping[str, Iterable[str]], *, confidence: float = 0.95
) -> dict[tuple[str, str], list[SliceFinding]]:
    """All slices of each (method, metric), worst first; corrected within each of these. InputError without slices."""
    if not slices:
        raise InputError("slices: there is none")
    members = _members(table.items, slices)
    return {
        (method, metric): found
        for metric in table.metrics
        for method, found in _findings(table, metric, list(slices), members, confidence)
    }


def _findings(
    table: ValueTable, metric: str, names: Sequence[str], members: Bools, confidence: float
) -> Iterator[tuple[str, list[SliceFinding]]]:
    k = table.metric(metric)
    inside, outside, undefined = _sides(table, k, members)
    judged = (inside.n >= SMALLEST) & (outside.n >= SMALLEST)
    difference = np.where(judged, inside.mean - outside.mean, np.nan)
    error, freedom = _welch(inside, outside)
    p = np.where(judged, t_test(t_statistic(difference, error), freedom + 1), np.nan)
    adjusted = np.stack([holm(column) for column in p.T], axis=1)
    half = -stdtrit(freedom, (1 - confidence) / (2 * np.maximum(judged.sum(0), 1))) * error
    worse = (adjusted <= 1 - confidence) & (table.signs[k] * difference < 0)
    ends = (difference, difference - half, difference + half)
    columns = (inside.mean, outside.mean, *ends, p, adjusted, inside.n, outside.n, undefined, worse)
    for m, method in enumerate(table.methods):
        rows = zip(names, *(each[:, m].tolist() for each in columns), strict=True)
        found = [SliceFinding(method, metric, *row) for row in rows]
        yield method, sorted(found, key=lambda each: _worst_first(each, table.signs[k]))


def _worst_first(finding: SliceFinding, sign: float) -> tuple[float, str]:
    return (math.inf if math.isnan(finding.difference) else sign * finding.difference, finding.slice)


class _Side(NamedTuple):
    """Of each slice and method, [S, M]."""

    mean: Floats
    error: Floats
    n: Ints


def _sides(table: ValueTable, k: int, members: Bools) -> tuple[_Side, _Side, Ints]:
    """Inside and outside of slices [n, S], and how many examples of each have no value."""
    defined, inside = table.defined[k], members.T.astype(np.float64)
    weights = table.weights[k][:, None] * defined
    centre = np.nan_to_num(moments(table.values[k], weights).mean)  # squares are of deviations from it
    values = np.where(defined, table.values[k] - centre, 0.0)
    parts = (defined * 1.0, weights, weights * values, weights**2, weights**2 * values, (weights * values) ** 2)
    sums = np.stack([inside @ part for part in parts])
    rest = np.stack([part.sum(0) for part in parts])[:, None] - sums
    return _side(sums, centre), _side(rest, centre), members.sum(0)[:, None] - sums[0].astype(np.int64)


def _side(sums: Floats, centre: Floats) -> _Side:
    n, total, first, q0, q1, q2 = sums
    mean = np.divide(first, total, out=np.full_like(first, np.nan), where=n > 0)
    square = np.maximum(q2 - 2 * mean * q1 + mean**2 * q0, 0) * n
    spread = np.divide(square, n - 1, out=np.full_like(square, np.nan), where=n > 1)
    return _Side(mean + centre, np.sqrt(spread) / np.where(n > 0, total, 1.0), n.astype(np.int64))


def worst_slice(findings: Sequence[SliceFinding]) -> SliceFinding | None:
    """The slice that is worse by most after correction; None where none is."""
    return next((finding for finding in findings if finding.worse), None)


def _members(items: Sequence[str], slices: Mapping[str, Iterable[str]]) -> Bools:
    """[n, S]."""
    wanted = [frozenset(members) for members in slices.values()]
    return np.array([[item in members for members in wanted] for item in items], dtype=bool)


def _welch(inside: _Side, outside: _Side) -> tuple[Floats, Floats]:
    """Standard error of a difference of independent means, and its degrees of freedom (Welch 1947)."""
    first, second = inside.error**2, outside.error**2
    spread = first**2 / np.maximum(inside.n - 1, 1) + second**2 / np.maximum(outside.n - 1, 1)
    freedom = np.divide((first + second) ** 2, spread, out=np.ones_like(first), where=spread > 0)
    return np.sqrt(first + second), freedom
