"""What is wrong with how a configuration looks for heads, and with the heads it then names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from attribution.errors import InputError
from attribution.heads.importance import check_importance
from attribution.heads.role_readings import MASSES, PROBES, ROWS
from attribution.heads.roles import IMPORTANCE, POSITIONAL, SYNTACTIC
from pipeline.config import Config, HeadsConfig
from pipeline.head_search import SCORES
from pipeline.overrides import Problem, did_you_mean
from pipeline.stages.identify_heads import ALL, CONTROLS, CORPORA, SPLITS

_NAMED = re.compile(r"(relation|role|top|bottom)\(\s*([^\s(),]+)")


def check_heads(config: Config) -> Iterator[Problem]:
    """Roles, controls, relations and importances that do not exist, and settings that mean nothing together."""
    heads = config.heads
    for key, values, known in (("roles", heads.roles, SPLITS), ("controls", heads.controls, CONTROLS)):
        for value in values:
            if value not in known:
                hint = f"{did_you_mean(value, known)} Choose from {', '.join(known)}."
                yield Problem(f"heads.{key}", f"heads.{key}: {value} is not a choice.{hint}")
    if heads.source in CORPORA and SCORES.keys().isdisjoint(heads.roles):
        text = f"heads.roles={heads.roles} has no role. Add one of {', '.join(SCORES)}, or take heads=all."
        yield Problem("heads.roles", text)
    yield from _thresholds(heads)
    yield from _importance(config)


def _thresholds(heads: HeadsConfig) -> Iterator[Problem]:
    for relation, threshold in heads.thresholds.items():
        key = f"heads.thresholds.{relation}"
        if relation not in heads.relations:
            yield Problem(key, f"{key}: {relation} is not in heads.relations={heads.relations}.")
        if not 0 <= threshold <= 1:
            yield Problem(key, f"{key}={threshold} must be between 0 and 1.")


def _importance(config: Config) -> Iterator[Problem]:
    asked = config.heads.importance
    for label, spec in asked.items():
        key = f"heads.importance.{label}"
        if not re.fullmatch(r"\w[\w-]*", label):
            yield Problem(key, f"{key}: a label has letters, digits, '-' and '_' only.")
        elif not isinstance(spec, Mapping):
            yield Problem(key, f"{key}={spec} is not an importance. Write {key}.method=gate_grad")
        elif problem := _wrong(spec):
            yield Problem(key, f"{key}: {problem}")
    if asked and config.dataset.form == "agreement":
        yield Problem("heads.importance", "heads.importance is for texts, not dataset.form=agreement.")
    if config.heads.curves and not asked:
        text = "heads.curves=true judges rankings, but heads.importance has none. Take heads=importance, or add one."
        yield Problem("heads.curves", text)


def _wrong(spec: Mapping[str, Any]) -> str | None:
    try:
        check_importance(spec)
    except InputError as error:
        return str(error).removeprefix("conf error: ")
    return None


def unknown_heads(heads: HeadsConfig, mask: str) -> str | None:
    """What is wrong with the heads that a mask names, as far as it is known before they are looked for."""
    for kind, name in _NAMED.findall(mask):
        if heads.source == "run":
            continue  # its heads are read when the run is prepared
        if kind == "relation":
            if heads.relations != [ALL] and name not in heads.relations:
                return f"names a relation outside heads.relations={heads.relations}."
        elif problem := _not_looked_for(heads, name):
            return problem
    return None


def _not_looked_for(heads: HeadsConfig, role: str) -> str | None:
    first, _, rest = role.partition(":")
    if first == IMPORTANCE:
        known = ", ".join(heads.importance) or "none"
        problem = f"names an importance that heads.importance does not have: {known}."
        return None if rest in heads.importance else problem
    kind = _KINDS.get(first)
    if kind is None:
        known = ", ".join([*_KINDS, IMPORTANCE])
        return f"names a role that does not exist.{did_you_mean(first, _KINDS)} Roles begin with {known}."
    searched = heads.source in CORPORA and kind in heads.roles
    return None if searched else f"names a role of the kind {kind}, which heads.roles={heads.roles} does not look for."


_KINDS = {
    POSITIONAL: POSITIONAL,
    SYNTACTIC: SYNTACTIC,
    **{role.id.partition(":")[0]: "attention" for role in (*MASSES, *ROWS)},
    **{role.id: "induction" for role in PROBES},
}
