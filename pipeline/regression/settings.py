"""What is wrong with the settings of a regression, and the rule they make."""

from __future__ import annotations

from collections.abc import Iterator

from attribution.errors import InputError
from pipeline.config import Config
from pipeline.overrides import did_you_mean
from pipeline.regression.compare import ACCURACY, VARY
from pipeline.regression.decide import Rule
from pipeline.regression.history import duration
from pipeline.regression.webhook import host_of

LOWEST = {"runtime_factor": 1, "memory_factor": 1, "samples": 1, "seed": 0, "golden": 0}


def rule_of(config: Config) -> Rule:
    """The rule of a night; InputError with one line for each problem of its settings."""
    if problems := list(_problems(config)):
        raise InputError("\n".join(f"conf error: {problem}" for problem in problems))
    for name in ("every", "late"):
        duration(f"regression.{name}", getattr(config.regression, name))
    chosen = config.regression
    same = {name: getattr(chosen, name) for name in ("alarm_line", "confidence", "samples", "seed", "golden")}
    return Rule(dict(chosen.tolerance), **same, confirmations=len(chosen.fresh_seeds))


def _problems(config: Config) -> Iterator[str]:
    chosen = config.regression
    for name in chosen.vary:
        if name not in VARY:
            yield f"regression.vary: {name} cannot vary.{did_you_mean(name, VARY)}"
    for metric in [*config.evaluation.metrics, ACCURACY]:
        if metric not in chosen.tolerance:
            yield f"regression.tolerance.{metric} is missing: what loss of {metric} has to be found?"
    for metric, loss in chosen.tolerance.items():
        if not loss >= 0:
            yield f"regression.tolerance.{metric}={loss} must be at least 0."
    if not 0 <= chosen.alarm_line < 1:
        yield f"regression.alarm_line={chosen.alarm_line} must be at least 0 and less than 1."
    if not 0 < chosen.confidence < 1:
        yield f"regression.confidence={chosen.confidence} must be between 0 and 1, both excluded."
    if not chosen.fresh_seeds or min(chosen.fresh_seeds) < 1 or len(set(chosen.fresh_seeds)) < len(chosen.fresh_seeds):
        yield f"regression.fresh_seeds={list(chosen.fresh_seeds)} must be different numbers of at least 1."
    if chosen.webhook and host_of(chosen.webhook) is None:
        yield "regression.webhook is not an http or https address."
    for name, lowest in LOWEST.items():
        if not getattr(chosen, name) >= lowest:
            yield f"regression.{name}={getattr(chosen, name)} must be at least {lowest}."
