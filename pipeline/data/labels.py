"""Labels of a data set as classes of a model, and whether they are the right way round."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import comb, factorial
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

from attribution.errors import InputError
from pipeline.data.examples import Label, spelled

SIGNIFICANCE = 0.01
LEAST_GAIN = 0.05  # accuracy by which another order of the labels must be better
_GENERIC = re.compile(r"(label)?_?(\d+)", re.IGNORECASE)


def map_labels(
    labels: Iterable[Label],
    label_names: Sequence[str] | None,
    model_labels: Mapping[int, str],
    label_map: Mapping[str, Any],
) -> dict[str | int, int]:
    """Class index of every label that occurs.

    First `model.label_map`, then by name, then, where one side has no names of its own, by index. Raises
    `InputError` with the model's classes and the override that would settle it.
    """
    distinct = sorted({label for label in labels if label is not None}, key=lambda label: (str(type(label)), label))
    given = {label: _given(label, label_names, label_map, model_labels) for label in distinct}
    rest = [label for label, index in given.items() if index is None]
    by_name = {label: _by_name(str(spelled(label, label_names)), model_labels) for label in rest}
    found = {**given, **by_name}
    if all(index is None for index in by_name.values()):
        found |= {label: _by_index(label, label_names, model_labels) for label in rest}
    lost = [label for label, index in found.items() if index is None]
    if lost:
        raise InputError(_no_class(lost[0], found, label_names, model_labels))
    return {label: index for label, index in found.items() if index is not None}


def _given(
    label: str | int, names: Sequence[str] | None, label_map: Mapping[str, Any], classes: Mapping[int, str]
) -> int | None:
    """The class `model.label_map` gives: an index or a class name."""
    for spelling in (str(label), str(spelled(label, names))):
        if spelling in label_map:
            return _class_index(label_map[spelling], spelling, classes)
    return None


def _class_index(value: Any, spelling: str, classes: Mapping[int, str]) -> int:
    named = _by_name(value, classes) if isinstance(value, str) else None
    index = int(value) if named is None and str(value).isdecimal() else named
    if index is None or index not in classes:
        raise InputError(
            f"conf error: model.label_map.{spelling}={value} is not a class of the model; choose {_listed(classes)}."
        )
    return index


def _by_name(name: str, classes: Mapping[int, str]) -> int | None:
    """The class of this name, however it is written; or the only one of which it is the beginning (neg, negative)."""
    plain = {index: _plain(other) for index, other in classes.items()}
    same = [index for index, other in plain.items() if other == _plain(name)]
    near = [index for index, other in plain.items() if len(_plain(name)) >= 3 and other.startswith(_plain(name))]
    return next((found[0] for found in (same, near) if len(found) == 1), None)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()


def _by_index(label: str | int, names: Sequence[str] | None, classes: Mapping[int, str]) -> int | None:
    """The label's own number, where either side has no names that could contradict it."""
    number = _number(label, names)
    if number is None or number not in classes:
        return None
    named = not isinstance(label, int) or names is not None
    generic = all(_GENERIC.fullmatch(name) for name in classes.values())
    return number if generic or not named or _GENERIC.fullmatch(str(spelled(label, names))) else None


def _number(label: str | int, names: Sequence[str] | None) -> int | None:
    if isinstance(label, int):
        return label
    if match := _GENERIC.fullmatch(label):
        return int(match[2])
    return names.index(label) if names is not None and label in names else None


def _no_class(
    label: str | int, found: Mapping[str | int, int | None], names: Sequence[str] | None, classes: Mapping[int, str]
) -> str:
    keys = [_key(other, names) for other in found]
    example = override({key: i for i, key in enumerate(keys)})
    return (
        f"conf error: label {spelled(label, names)} of the data set is none of the model's classes {_listed(classes)}; "
        f"say which label is which class, e.g. {example}"
    )


def _key(label: str | int, names: Sequence[str] | None) -> str:
    """How the label is written in an override: its name where that is one plain word, else its number."""
    name = str(spelled(label, names))
    return name if re.fullmatch(r"\w+", name) else str(label)


def _listed(classes: Mapping[int, str]) -> str:
    return ", ".join(f"{index}={name}" for index, name in sorted(classes.items()))


def override(label_map: Mapping[str, int]) -> str:
    """The command line overrides that set `model.label_map`."""
    return " ".join(f"'++model.label_map.{label}={index}'" for label, index in label_map.items())


@dataclass(frozen=True)
class LabelFit:
    """How well predictions agree with the labels, and with the labels in the best other order."""

    n: int
    accuracy: float
    majority_rate: float  # accuracy of always answering the most frequent label
    permutation: tuple[int, ...]  # class of the model that fits label i best
    permuted_accuracy: float
    permuted_is_better: bool


def label_fit(labels: Sequence[int], predicted: Sequence[int], n_classes: int) -> LabelFit:
    """Accuracy as mapped and under the best permutation of the labels.

    The other order counts as better if it gains at least 5 points and an exact McNemar test, Bonferroni-corrected
    for all n! - 1 other orders, gives p < 0.01.
    """
    gold, guess = np.asarray(labels), np.asarray(predicted)
    confusion = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(confusion, (gold, guess), 1)
    permutation = linear_sum_assignment(confusion + np.eye(n_classes) / (2 * n_classes), maximize=True)[1]  # ties stay
    right, permuted = gold == guess, permutation[gold] == guess
    gain = float(permuted.mean() - right.mean())
    p = _mcnemar(int((permuted & ~right).sum()), int((right & ~permuted).sum()), factorial(n_classes) - 1)
    return LabelFit(
        n=len(gold),
        accuracy=float(right.mean()),
        majority_rate=float(confusion.sum(axis=1).max() / len(gold)),
        permutation=tuple(map(int, permutation)),
        permuted_accuracy=float(permuted.mean()),
        permuted_is_better=gain >= LEAST_GAIN and p < SIGNIFICANCE,
    )


def _mcnemar(wins: int, losses: int, tests: int) -> float:
    """Exact two-sided p value of `wins` against `losses` under equal odds, times the number of tests.

    Integers throughout: with many classes the correction is larger than a float holds.
    """
    n = wins + losses
    tail = sum(comb(n, k) for k in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail * tests / 2**n) if 2 * tail * tests < 2**n else 1.0
