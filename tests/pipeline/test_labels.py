"""Labels of the data as classes of the model, and whether they are the right way round."""

from __future__ import annotations

import shlex
from itertools import permutations

import numpy as np
import pytest
from hydra import compose, initialize
from hydra.core.config_store import ConfigStore
from scipy.stats import binomtest

from attribution.errors import InputError
from pipeline.config import ModelConfig
from pipeline.data.labels import label_fit, map_labels, override

SENTIMENT = {0: "NEGATIVE", 1: "POSITIVE"}
GENERIC = {0: "LABEL_0", 1: "LABEL_1"}
NLI = {0: "contradiction", 1: "entailment", 2: "neutral"}

# labels, their names, the model's classes, model.label_map -> class indexes
MAPPED = {
    "by name": (["negative", "positive"], None, SENTIMENT, {}, [0, 1]),
    "by name, the other way round": (["negative", "positive"], None, {0: "Positive", 1: "Negative"}, {}, [1, 0]),
    "by the name of an integer": ([0, 1, 2], ["entailment", "neutral", "contradiction"], NLI, {}, [1, 2, 0]),
    "however it is written": (["not_entailment"], None, {0: "entailment", 1: "Not-Entailment"}, {}, [1]),
    "by the beginning of a name": ([0, 1], ["neg", "pos"], SENTIMENT, {}, [0, 1]),
    "by index to generic classes": ([0, 1], None, GENERIC, {}, [0, 1]),
    "by index of a named label to generic classes": ([0, 1], ["neg", "pos"], GENERIC, {}, [0, 1]),
    "names of an ordered list to generic classes": (
        ["negative", "positive"],
        ["negative", "positive"],
        GENERIC,
        {},
        [0, 1],
    ),
    "bare integers to named classes": ([0, 1], None, SENTIMENT, {}, [0, 1]),
    "generic names to named classes": (["LABEL_1", "LABEL_0"], None, SENTIMENT, {}, [0, 1]),
    "map to indexes": ([0, 1], None, SENTIMENT, {"0": 1, "1": 0}, [1, 0]),
    "map to names": (["good", "bad"], None, SENTIMENT, {"good": "positive", "bad": "negative"}, [0, 1]),
    "map by the name of an integer": ([0, 1], ["bad", "good"], SENTIMENT, {"bad": "0", "good": "1"}, [0, 1]),
    "map some, match the others": (["meh", "positive"], None, SENTIMENT, {"meh": 0}, [0, 1]),
    "missing labels": ([None, 1], None, SENTIMENT, {}, [1]),
}


@pytest.mark.parametrize("case", MAPPED)
def test_mapping(case: str) -> None:
    labels, names, classes, label_map, expected = MAPPED[case]
    found = map_labels(labels, names, classes, label_map)
    assert [found[label] for label in sorted(label for label in labels if label is not None)] == expected


OUTSIDE = {
    "index too large": ([0, 2], None, SENTIMENT, {}, "label 2 of the data set is none of .* 0=NEGATIVE, 1=POSITIVE"),
    "no such name": (["negative", "mixed"], None, SENTIMENT, {}, "label mixed of the data set is none of"),
    "names against names": ([0, 1], ["bad", "good"], SENTIMENT, {}, "e.g. '[+][+]model.label_map.bad=0'"),
    "names against generic classes": (["bad", "good"], None, GENERIC, {}, "label bad of the data set is none of"),
    "map to nowhere": ([0], None, SENTIMENT, {"0": 7}, "model.label_map.0=7 is not a class .* 0=NEGATIVE, 1=POSITIVE"),
    "map to no name": ([0], None, SENTIMENT, {"0": "mixed"}, "model.label_map.0=mixed is not a class"),
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_label_outside_the_classes(case: str) -> None:
    labels, names, classes, label_map, message = OUTSIDE[case]
    with pytest.raises(InputError, match=message):
        map_labels(labels, names, classes, label_map)


@pytest.mark.parametrize("label_map", [{"entailment": 2, "neutral": 0}, {"0": 1, "1": 0}])
def test_suggested_overrides_can_be_typed(label_map: dict[str, int]) -> None:
    ConfigStore.instance().store(name="model_alone", node=ModelConfig)
    with initialize(version_base=None):
        words = [word.replace("model.", "") for word in shlex.split(override(label_map))]
        assert dict(compose("model_alone", overrides=words).label_map) == label_map


def noisy(n: int, n_classes: int, accuracy: float, order: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """Labels, and predictions that agree with `order[label]` at the given rate."""
    rng = np.random.default_rng(0)
    gold = rng.integers(n_classes, size=n)
    wrong = (np.array(order)[gold] + rng.integers(1, n_classes, size=n)) % n_classes
    return gold.tolist(), np.where(rng.random(n) < accuracy, np.array(order)[gold], wrong).tolist()


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_permuted_labels_are_found(order: tuple[int, ...]) -> None:
    fit = label_fit(*noisy(200, 3, 0.8, order), 3)
    assert fit.permutation == order
    assert fit.permuted_is_better == (order != (0, 1, 2))


def test_best_permutation_by_brute_force() -> None:
    gold, guess = noisy(40, 4, 0.3, (2, 0, 1, 3))
    best = max(np.mean(np.array(order)[gold] == guess) for order in permutations(range(4)))
    assert label_fit(gold, guess, 4).permuted_accuracy == pytest.approx(best)


def test_accuracy_and_majority_rate() -> None:
    fit = label_fit([0, 0, 0, 1], [0, 0, 1, 1], 2)
    assert (fit.n, fit.accuracy, fit.majority_rate) == (4, 0.75, 0.75)


@pytest.mark.parametrize(("wins", "better"), [(16, False), (17, True)])
def test_threshold_is_an_exact_mcnemar_test(wins: int, better: bool) -> None:
    """Two classes, 4 right as mapped, `wins` right the other way."""
    gold, guess = [0] * (4 + wins), [0] * 4 + [1] * wins
    assert (binomtest(wins, 4 + wins).pvalue < 0.01) == better
    assert label_fit(gold, guess, 2).permuted_is_better == better


def test_small_gains_do_not_count_however_significant() -> None:
    gold = [0] * 5000 + [1] * 5000
    guess = [0] * 2400 + [1] * 2600 + [0] * 2600 + [1] * 2400  # 0.48 against 0.52, p = 6e-5
    fit = label_fit(gold, guess, 2)
    assert fit.permuted_accuracy == pytest.approx(0.52)
    assert not fit.permuted_is_better


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_a_model_that_guesses_is_not_stopped(n_classes: int) -> None:
    rng = np.random.default_rng(1)
    pairs = rng.integers(n_classes, size=(200, 2, 60))
    assert sum(label_fit(gold, guess, n_classes).permuted_is_better for gold, guess in pairs) <= 6  # 1 % and its noise


def test_many_classes() -> None:
    order = tuple(np.roll(np.arange(77), 1).tolist())
    assert label_fit(*noisy(3000, 77, 0.9, order), 77).permuted_is_better
