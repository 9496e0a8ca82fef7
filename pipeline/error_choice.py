"""Which method explains the errors of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from attribution.methods.registry import METHODS
from pipeline.config import Config
from pipeline.overrides import Problem

if TYPE_CHECKING:
    from pipeline.prepare import Prepared

AUTO = "auto"


def explaining_label(config: Config, prepared: Prepared) -> str | None:
    """The label in `attribution`; None where errors are not explained, or no method of the run could do it.

    Of several, the first that does not ask the model again: errors are explained for three targets each.
    """
    if prepared.model.task != "classification" or prepared.texts is not None:
        return None
    if config.errors.method != AUTO:
        return config.errors.method
    able = [label for label, entry in config.attribution.items() if unable(entry) is None]
    quick = [label for label in able if not METHODS[config.attribution[label]["method"]].asks]
    return next(iter([*quick, *able]), None)


def unable(entry: Mapping[str, Any]) -> str | None:
    """Why a method cannot tell what speaks for one class and against another; None: it can."""
    method = METHODS[entry["method"]]
    if method.control or str(entry.get("head_mask", "")).startswith("random"):
        return "is a control"
    return "explains all classes alike" if method.class_blind else None


def check_errors(config: Config) -> Iterator[Problem]:
    """A method that is not among those of the run, or cannot do it."""
    label = config.errors.method
    if label is None or label == AUTO:
        return
    able = [name for name, entry in config.attribution.items() if _known(entry) and unable(entry) is None]
    named = f"Choose one of {', '.join([*able, AUTO])}, or null."
    if label not in config.attribution:
        yield Problem("errors.method", f"errors.method={label} is not a label of attribution. {named}")
    elif _known(config.attribution[label]) and (reason := unable(config.attribution[label])):
        yield Problem("errors.method", f"errors.method={label} {reason}. {named}")


def _known(entry: Any) -> bool:
    return isinstance(entry, Mapping) and entry.get("method") in METHODS
