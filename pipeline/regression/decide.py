"""The gates: from values side by side to findings. Pure functions; the same ones decide simulated nights."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from evaluation import bootstrap_columns, holm
from pipeline.regression.compare import ACCURACY, MODEL, Floats, Key, Pairs
from pipeline.standing import higher_is_better

PASS, IMPROVED, WARN, REGRESSION = "pass", "improved", "warn", "regression"
LEVELS = (REGRESSION, WARN, IMPROVED, PASS)  # worst first
DETECTED = 0.9  # the power that `detectable` speaks of
DRAWS_PER_REJECTION = 5  # resamples, in units of what the smallest P value that Holm asks for needs
LOST = 0.01  # share of the champion's defined values that may become undefined before it is a regression


@dataclass(frozen=True)
class Rule:
    """How values are judged: `regression` of the configuration, as far as numbers go."""

    tolerance: Mapping[str, float]  # metric -> loss that is tolerated
    confidence: float = 0.95
    samples: int = 10_000
    seed: int = 0
    golden: float = 0.0


@dataclass(frozen=True)
class Finding:
    """One line of the verdict. Numbers are None where a gate has none."""

    gate: str  # statistical, golden, undefined, drift, runtime, memory, schedule
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
    tolerance: float | None = None
    detectable: float | None = None  # the loss that such a night finds with 90 % probability
    n: int | None = None
    confirmed: bool | None = None  # on fresh seeds; None where nothing had to be confirmed

    @property
    def key(self) -> Key:
        """Method and metric."""
        return (self.method or "", self.metric or "")


def direction(metric: str) -> int:
    """1 where higher is better, -1 where lower is, 0 where neither."""
    higher = True if metric == ACCURACY else higher_is_better(metric)
    return 0 if higher is None else 1 if higher else -1


def tolerance_of(metric: str, rule: Rule) -> float:
    """The tolerated loss of a metric (`id` or `id@k`)."""
    return rule.tolerance[metric.split("@")[0]]


def statistical(pairs: Pairs, rule: Rule) -> list[Finding]:
    """Paired bootstrap over examples for each column: a loss that is significant and larger than tolerated.

    REGRESSION if the interval excludes 0 on the bad side, after Holm over all columns, and the loss exceeds the
    tolerance; WARN if only one of these holds.
    """
    columns = [j for j in range(len(pairs.keys)) if _defined(pairs)[:, j].any()]
    chosen = pairs.only([pairs.keys[j] for j in columns])
    defined = _defined(chosen)
    weights = np.where(defined, chosen.weights, 0.0)
    alpha, m = 1 - rule.confidence, max(1, len(columns))
    samples = max(rule.samples, round(DRAWS_PER_REJECTION * m / alpha))
    means = bootstrap_columns(chosen.candidate - chosen.champion, weights, samples=samples, seed=rule.seed)
    p = holm([_p_value(column[~np.isnan(column)]) for column in means.T])
    quantile = np.nanquantile if np.isnan(means).any() else np.quantile  # the former is ten times as slow
    low, high = quantile(means, [alpha / 2, 1 - alpha / 2], axis=0) if columns else ([], [])
    errors = np.nanstd(means, axis=0)
    first, second = _means(chosen.champion, weights), _means(chosen.candidate, weights)
    return [
        _judged(key, rule, Moved(first[j], second[j], low[j], high[j], p[j], errors[j], int(defined[:, j].sum()), m))
        for j, key in enumerate(chosen.keys)
    ]


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
    return Finding("golden", REGRESSION, text, method, metric, delta=largest, tolerance=rule.golden, n=len(pairs.items))


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


def decide(
    pairs: Pairs, rule: Rule, fresh: Callable[[int], Pairs], rounds: int, controls: Collection[str] = ()
) -> list[Finding]:
    """Findings on all columns but the controls'; a regression has to be found again in each of `rounds` fresh ones.

    `fresh(round)` gives the values of a confirmation and is called only where there is something to confirm.
    """
    gated = pairs.only([key for key in pairs.keys if key[0] not in controls])
    findings = [*undefined(gated), *statistical(gated, rule)]
    for number in range(rounds):
        suspects = [finding for finding in findings if finding.level == REGRESSION]
        if not suspects:
            break
        again = fresh(number).only({finding.key for finding in suspects})
        reseeded = replace(rule, seed=rule.seed + 1 + number)
        found = {(finding.gate, finding.key): finding for finding in [*undefined(again), *statistical(again, reseeded)]}
        findings = [_confirmed(f, found.get((f.gate, f.key)), number) if f in suspects else f for f in findings]
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
    columns: int


def _judged(key: Key, rule: Rule, moved: Moved) -> Finding:
    method, metric = key
    sign, tolerance = direction(metric), tolerance_of(metric, rule)
    delta = float(moved.candidate - moved.champion)
    significant, large = bool(moved.p <= 1 - rule.confidence), abs(delta) > tolerance
    level = _level(sign, delta, significant, large)
    needed = NormalDist().inv_cdf(1 - (1 - rule.confidence) / (2 * moved.columns)) * moved.error
    detectable = max(tolerance, needed) + NormalDist().inv_cdf(DETECTED) * moved.error
    text = (
        f"{title(method, metric)} {_verb(sign, delta)} by {abs(delta):.4g} [{moved.low:+.4g}, {moved.high:+.4g}] "
        f"from {moved.champion:.4g} to {moved.candidate:.4g} (tolerated {tolerance:g}, p {moved.p:.2g}"
        f"{'' if significant or level == PASS else ', not significant'})"
    )
    numbers = (float(moved.champion), float(moved.candidate), delta, float(moved.low), float(moved.high))
    return Finding(
        "statistical", level, text, method, metric, *numbers, float(moved.p), tolerance, float(detectable), moved.n
    )


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


def _confirmed(finding: Finding, again: Finding | None, number: int) -> Finding:
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
