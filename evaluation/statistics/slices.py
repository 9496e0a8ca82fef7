"""Slices of the examples: where a method does worse than elsewhere, corrected for having looked at many places."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit  # type: ignore[import-untyped]

from attribution.errors import InputError
from evaluation.statistics.moments import Bools, Floats, moments, t_statistic
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
    table: ValueTable,
    method: str,
    metric: str,
    slices: Mapping[str, Iterable[str]],
    *,
    confidence: float = 0.95,
) -> list[SliceFinding]:
    """All slices of one method and metric, worst first."""
    if not slices:
        raise InputError("slices: there is none")
    own = table.only([metric], [method])
    sign, values, weights = own.signs[0], own.values[0, :, 0], own.weights[0] * own.defined[0, :, 0]
    members = _members(own.items, slices)
    inside, outside = (
        moments(np.broadcast_to(values[:, None], each.shape), each * weights[:, None]) for each in (members, ~members)
    )
    judged = (inside.n >= SMALLEST) & (outside.n >= SMALLEST)
    difference = np.where(judged, inside.mean - outside.mean, np.nan)
    error, freedom = _welch(inside.error, outside.error, inside.n, outside.n)
    t = t_statistic(difference, error)
    p = np.where(judged, t_test(t, freedom + 1), np.nan)
    adjusted = holm(p)
    half = -stdtrit(freedom, (1 - confidence) / (2 * max(int(judged.sum()), 1))) * error
    worse = (adjusted <= 1 - confidence) & (sign * difference < 0)
    columns = (inside.mean, outside.mean, difference, difference - half, difference + half, p, adjusted)
    counts = (inside.n, outside.n, members.sum(0) - inside.n)
    numbers = zip(*(each.tolist() for each in (*columns, *counts, worse)), strict=True)
    found = [SliceFinding(method, metric, name, *row) for name, row in zip(slices, numbers, strict=True)]
    return sorted(found, key=lambda each: (np.nan_to_num(sign * each.difference, nan=np.inf), each.slice))


def worst_slice(findings: Sequence[SliceFinding]) -> SliceFinding | None:
    """The slice that is worse by most after correction; None where none is."""
    return next((finding for finding in findings if finding.worse), None)


def _members(items: Sequence[str], slices: Mapping[str, Iterable[str]]) -> Bools:
    """[n, S]."""
    return np.stack(
        [np.isin(np.array(items), np.array(sorted(members), dtype=str)) for members in slices.values()], axis=1
    )


def _welch(error: Floats, other: Floats, n: ArrayLike, n_other: ArrayLike) -> tuple[Floats, Floats]:
    """Standard error of a difference of independent means, and its degrees of freedom (Welch 1947)."""
    first, second = error**2, other**2
    spread = first**2 / np.maximum(np.asarray(n) - 1, 1) + second**2 / np.maximum(np.asarray(n_other) - 1, 1)
    freedom = np.divide((first + second) ** 2, spread, out=np.ones_like(first), where=spread > 0)
    return np.sqrt(first + second), freedom
