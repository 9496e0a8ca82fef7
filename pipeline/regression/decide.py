"""The gates: from values side by side to findings. Pure functions; the same ones decide simulated nights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from evaluation import bootstrap_columns, holm
from pipeline.regression.compare import ACCURACY, MODEL, Floats, Key, Pairs
from pipeline.standing import higher_is_better

PASS, IMPROVED, WARN, REGRESSION = "pass", "improved", "warn", "regression"
LEVELS = (REGRESSION, WARN, IMPROVED, PASS)  # worst first
FOUND = 0.9  # share of nights on which a loss of the tolerance is to be found
DRAWS_PER_REJECTION = 5  # resamples, in units of what the smallest P value that Holm asks for needs
LOST = 0.01  # share of the champion's defined values that may become undefined before it is a regression


@dataclass(frozen=True)
class Rule:
    """How values are judged: `regression` of the configuration, as far as numbers go."""

    tolerance: Mapping[str, float]  # metric -> the loss that has to be found
    alarm_line: float = 2 / 3  # share of the tolerance beyond which a significant loss is a regression
    confidence: float = 0.95
    samples: int = 10_000
    seed: int = 0
    golden: float = 0.0
    confirmations: int = 1  # in each of which a regression has to be found again


@dataclass(frozen=True)
class Finding:
    """One line of the verdict. Numbers are None where a gate has none."""

    gate: str  # statistical, golden, undefined, drift, runtime, memory, worker_memory, schedule
    level: str
    text: str
    method: str | None = None
    metric: str | None = None
    champion: float | None = None
    candidate: float | None = None
    delta: float | None = None  # candidate minus champion
    low: float | None = None  # bootstrap interval of `delta`
    high: float | None = None
    p: float | None = None  # two-sided, Holm-adjusted over the night
    tolerance: float | None = None  # the loss that has to be found
    line: float | None = None  # the alarm line: what is significant and beyond it is a regression
    detectable: float | None = None  # the loss that such a night, confirmed, finds with 90 % probability
    n: int | None = None
    n_needed: int | None = None  # examples with which `detectable` would be the tolerance
    confirmed: bool | None = None  # on fresh seeds; None where nothing had to be confirmed

    def __str__(self) -> str:
        return f"{self.level}: {self.text}"

    @property
    def key(self) -> Key:
        """Method and metric."""
        return (self.method or "", self.metric or "")

    @property
    def title(self) -> str:
        """Method and metric as people read them."""
        return title(*self.key)


def direction(metric: str) -> int:
    """1 where higher is better, -1 where lower is, 0 where neither."""
    higher = True if metric == ACCURACY else higher_is_better(metric)
    return 0 if higher is None else 1 if higher else -1


def tolerance_of(metric: str, rule: Rule) -> float:
    """The loss of a metric (`id` or `id@k`) that has to be found."""
    return rule.tolerance[metric.split("@")[0]]


def statistical(pairs: Pairs, rule: Rule) -> list[Finding]:
    """Paired bootstrap over examples for each column: a loss that is significant and beyond the alarm line.

    REGRESSION if the interval excludes 0 on the bad side, after Holm over all columns, and the loss exceeds the
    line; WARN if only one of these holds.
    """
    chosen = pairs.only([pairs.keys[column] for column in np.flatnonzero(_defined(pairs).any(axis=0))])
    if not chosen.keys:
        return []
    defined = _defined(chosen)
    weights = np.where(defined, chosen.weights, 0.0)
    alpha, m = 1 - rule.confidence, len(chosen.keys)
    samples = max(rule.samples, round(DRAWS_PER_REJECTION * m / alpha))
    means = bootstrap_columns(chosen.candidate - chosen.champion, weights, samples=samples, seed=rule.seed)
    p = holm([_p_value(column[~np.isnan(column)]) for column in means.T])
    quantile = np.nanquantile if np.isnan(means).any() else np.quantile  # the former is ten times as slow
    low, high = quantile(means, [alpha / 2, 1 - alpha / 2], axis=0)
    sides = [_means(side, weights) for side in (chosen.champion, chosen.candidate)]
    numbers = [*sides, low, high, p, np.nanstd(means, axis=0), defined.sum(axis=0)]
    rows = zip(chosen.keys, *(each.tolist() for each in numbers), strict=True)
    return [_judged(key, rule, Moved(*row), m) for key, *row in rows]


def golden(pairs: Pairs, rule: Rule) -> Finding:
    """Where nothing differs that could show in a value, every value has to be the same."""
    differences = np.abs(pairs.candidate - pairs.champion)
    one_undefined = np.isnan(pairs.candidate) != np.isnan(pairs.champion)
    differences = np.where(one_undefined, np.inf, np.nan_to_num(differences, nan=0.0))
    largest = float(differences.max(initial=0.0))
    counts = f"{int((differences > rule.golden).sum())} of {differences.size} values differ"
    if largest <= rule.golden:
        return Finding(
            "golden", PASS, f"golden values: all {differences.size} agree", delta=largest, n=len(pairs.items)
        )
    method, metric = pairs.keys[int(differences.max(axis=0).argmax())]
    text = (
        f"golden values: {counts} although nothing else does, by up to {largest:.3g} "
        f"({method} {metric}; tolerated {rule.golden:.3g})"
    )
    return Finding("golden", REGRESSION, text, method, metric, delta=largest, line=rule.golden, n=len(pairs.items))


def undefined(pairs: Pairs) -> list[Finding]:
    """Values the champion has and the candidate lacks: a case that is missing must not count as passed."""
    findings = []
    had = ~np.isnan(pairs.champion) & (pairs.weights > 0)
    lost = had & np.isnan(pairs.candidate)
    for j, (method, metric) in enumerate(pairs.keys):
        if count := int(lost[:, j].sum()):
            level = REGRESSION if count > LOST * had[:, j].sum() else WARN
            text = f"{method} {metric}: undefined for {count} of the {had[:, j].sum()} examples the champion has it for"
            findings.append(Finding("undefined", level, text, method, metric, n=count))
    return findings


def decide(pairs: Pairs, rule: Rule, fresh: Callable[[int], Pairs]) -> list[Finding]:
    """Findings on all columns; a regression has to be found again in each of the rule's confirmations.

    `fresh(number)` gives the values of a confirmation, from 0, and is called only where there is something to confirm.
    """
    findings = [*undefined(pairs), *statistical(pairs, rule)]
    for number in range(rule.confirmations):
        suspects = [finding for finding in findings if finding.level == REGRESSION]
        if not suspects:
            break
        again = fresh(number).only({finding.key for finding in suspects})
        reseeded = replace(rule, seed=rule.seed + 1 + number)
        found = {(finding.gate, finding.key): finding for finding in [*undefined(again), *statistical(again, reseeded)]}
        findings = [_confirmed(f, found.get((f.gate, f.key))) if f in suspects else f for f in findings]
    return findings


@dataclass(frozen=True)
class Moved:
    """What the bootstrap says of one column."""

    champion: float
    candidate: float
    low: float
    high: float
    p: float
    error: float
    n: int


def _judged(key: Key, rule: Rule, moved: Moved, columns: int) -> Finding:
    method, metric = key
    sign, tolerance = direction(metric), tolerance_of(metric, rule)
    delta, line = moved.candidate - moved.champion, rule.alarm_line * tolerance
    significant = moved.p <= 1 - rule.confidence
    level = _level(sign, delta, significant, abs(delta) > line)
    text = (
        f"{title(method, metric)} {_verb(sign, delta)} by {abs(delta):.4g} [{moved.low:+.4g}, {moved.high:+.4g}] "
        f"from {moved.champion:.4g} to {moved.candidate:.4g} (alarm line {line:.3g}, p {moved.p:.2g}"
        f"{'' if significant or level == PASS else ', not significant'})"
    )
    numbers = (moved.champion, moved.candidate, delta, moved.low, moved.high, moved.p, tolerance, line)
    detectable, n_needed = _power(metric, rule, moved, columns)
    return Finding("statistical", level, text, method, metric, *numbers, detectable, moved.n, n_needed)


def _power(metric: str, rule: Rule, moved: Moved, columns: int) -> tuple[float, int | None]:
    """The loss that is found on FOUND of nights like this, and the examples with which the tolerance is.

    A night finds what its own look and each confirmation, on as many other examples, find.
    """
    error, tolerance = moved.error, tolerance_of(metric, rule)
    if metric == ACCURACY:  # an example is right or wrong: such a loss has a spread, even where this night has none
        share = min(tolerance, 0.5)
        error = max(error, math.sqrt(share * (1 - share) / moved.n))
    normal = NormalDist().inv_cdf
    beyond = normal(FOUND ** (1 / (1 + rule.confirmations)))
    significant = normal(1 - (1 - rule.confidence) / (2 * columns)) + beyond
    line = rule.alarm_line * tolerance
    bearable = min((tolerance - line) / beyond, tolerance / significant)  # error at which the tolerance is found
    needed = max(1, math.ceil(moved.n * (error / bearable) ** 2)) if bearable else None
    return max(line + beyond * error, significant * error), needed


def _level(sign: int, delta: float, significant: bool, large: bool) -> str:
    if sign * delta > 0:
        return IMPROVED if significant and large else PASS
    if not delta or not (significant or large):
        return PASS
    return REGRESSION if sign and significant and large else WARN


def _verb(sign: int, delta: float) -> str:
    moved = "rose" if delta > 0 else "fell"
    return f"{moved} ({'better' if sign * delta > 0 else 'worse'})" if sign and delta else moved


def title(method: str, metric: str) -> str:
    """A column as people read it."""
    return "the model's accuracy" if method == MODEL else f"{method} {metric}"


def _confirmed(finding: Finding, again: Finding | None) -> Finding:
    if again is not None and again.level == REGRESSION:
        return replace(finding, confirmed=True)
    how = "is gone" if again is None else again.text
    return replace(finding, level=WARN, confirmed=False, text=f"{finding.text}; not confirmed on fresh seeds: {how}")


def _defined(pairs: Pairs) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return ~np.isnan(pairs.champion) & ~np.isnan(pairs.candidate) & (pairs.weights > 0)


def _means(values: Floats, weights: Floats) -> Floats:
    kept = np.where(weights > 0, values, 0.0)
    means: Floats = (kept * weights).sum(0) / weights.sum(0)
    return means


def _p_value(means: Floats) -> float:
    """Two-sided, from the resamples on the other side of 0; never smaller than their number can show."""
    beyond = min(int((means <= 0).sum()), int((means >= 0).sum()))
    return min(1.0, 2 * (beyond + 1) / (len(means) + 1))
