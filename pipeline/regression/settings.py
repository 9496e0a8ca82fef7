"""What is wrong with the settings of a regression, and the rule they make."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from attribution.errors import InputError
from pipeline.config import Config
from pipeline.overrides import did_you_mean
from pipeline.regression.compare import ACCURACY, VARY
from pipeline.regression.decide import Rule
from pipeline.regression.history import duration


def rule_of(config: Config) -> Rule:
    """The rule of a night; InputError with one line for each problem of its settings."""
    if problems := list(_problems(config)):
        raise InputError("\n".join(f"conf error: {problem}" for problem in problems))
    for name in ("every", "late"):
        duration(f"regression.{name}", getattr(config.regression, name))
    chosen = config.regression
    return Rule(dict(chosen.tolerance), chosen.confidence, chosen.samples, chosen.seed, chosen.golden)


def _problems(config: Config) -> Iterator[str]:
    chosen = config.regression
    for name in chosen.vary:
        if name not in VARY:
            yield f"regression.vary: {name} cannot vary.{did_you_mean(name, VARY)}"
    for metric in [*config.evaluation.metrics, ACCURACY]:
        if metric not in chosen.tolerance:
            yield f"regression.tolerance.{metric} is missing: what loss of {metric} is tolerated?"
    for metric, loss in chosen.tolerance.items():
        if not loss >= 0:
            yield f"regression.tolerance.{metric}={loss} must be at least 0."
    if not 0 < chosen.confidence < 1:
        yield f"regression.confidence={chosen.confidence} must be between 0 and 1, both excluded."
    if not chosen.fresh_seeds or min(chosen.fresh_seeds) < 1 or len(set(chosen.fresh_seeds)) < len(chosen.fresh_seeds):
        yield f"regression.fresh_seeds={list(chosen.fresh_seeds)} must be different numbers of at least 1."
    if chosen.webhook and urlsplit(chosen.webhook).scheme not in ("http", "https"):
        yield "regression.webhook is not an http or https address."
    for name in ("runtime_factor", "memory_factor", "samples", "found"):
        if getattr(chosen, name) < 1:
            yield f"regression.{name}={getattr(chosen, name)} must be at least 1."
