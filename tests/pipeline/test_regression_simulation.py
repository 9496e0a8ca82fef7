"""How often the gates cry wolf, and how often they sleep: nights drawn from the values of a real run.

`nightly_values.parquet` holds what six methods scored on the 160 embedded reviews (`headlight run experiment=demo`).
What moves from one night to the next is drawn from differences of real methods on the same review, with a random sign:
those of two near relatives (mask_lrp and transformer_attribution), as of a method whose ranks are shaken, and those of
two strangers (gradcam and attcat), as of a method that is drawn anew. The metrics of a review stay together.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.compose import compose_config
from pipeline.regression.compare import ACCURACY, MODEL, Key, Pairs
from pipeline.regression.decide import PASS, REGRESSION, WARN, Rule, decide, direction, statistical

METHODS = ("mask_lrp", "transformer_attribution", "full_lrp", "attention_rollout", "gradcam", "attcat")
METRICS = ("aopc", "log_odds", "comprehensiveness", "sufficiency")
KEYS = [(method, metric) for method in METHODS for metric in METRICS]
VALUES = np.stack(
    [column.to_numpy() for column in pq.read_table(Path(__file__).parent / "nightly_values.parquet").columns], axis=1
).astype(np.float64)
RELATIVES, STRANGERS = (("mask_lrp", "transformer_attribution"), ("gradcam", "attcat"))
NIGHTS, EXAMPLES = 200, 80


@pytest.fixture(scope="module")
def rule() -> Rule:
    """The nightly's own tolerances; fewer resamples, which only makes it coarser."""
    tolerance = compose_config(["experiment=nightly"]).regression.tolerance
    return Rule(tolerance, samples=2000)


def noise(pair: tuple[str, str], rows: int, rng: np.random.Generator) -> np.ndarray:
    """Differences of two methods on drawn reviews, their sign drawn for each review and method, [rows, columns]."""
    first, second = (VALUES[:, [KEYS.index((name, metric)) for metric in METRICS]] for name in pair)
    blocks = []
    for _ in METHODS:
        drawn = (first - second)[rng.integers(0, len(VALUES), rows)]
        blocks.append(drawn * rng.choice([-1.0, 1.0], (rows, 1)))
    return np.concatenate(blocks, axis=1)


def compared(rows: np.ndarray, pair: tuple[str, str], loss: dict[Key, float], rng: np.random.Generator) -> Pairs:
    """Some reviews at the champion and on a night that lost so much."""
    before = VALUES[rows]
    shift = np.array([-direction(key[1]) * loss.get(key, 0.0) for key in KEYS])
    after = before + noise(pair, len(rows), rng) + shift
    return Pairs(KEYS, [str(row) for row in rows], before, after, np.ones_like(before))


def night(pair: tuple[str, str], loss: dict[Key, float], seed: int, rule: Rule) -> str:
    """The worst level of a simulated night: half of the reviews first, the other half to confirm."""
    rng = np.random.default_rng(seed)
    first, second = np.split(rng.permutation(len(VALUES)), 2)
    found = decide(compared(first, pair, loss, rng), rule, lambda number: compared(second, pair, loss, rng))
    levels = {finding.level for finding in found}
    return REGRESSION if REGRESSION in levels else WARN if WARN in levels else PASS


@pytest.mark.parametrize("pair", [RELATIVES, STRANGERS], ids=["relatives", "strangers"])
def test_nights_without_a_change_raise_at_most_one_alarm_in_200(pair: tuple[str, str], rule: Rule) -> None:
    found = Counter(night(pair, {}, seed, rule) for seed in range(NIGHTS))
    assert found[REGRESSION] <= 1


def alone(metric: str, size: float, seed: int, rule: Rule, pair: tuple[str, str] = RELATIVES) -> str:
    """A night with a loss of so many tolerances in one metric of one method, the hardest case."""
    return night(pair, {(METHODS[seed % len(METHODS)], metric): size * rule.tolerance[metric]}, seed, rule)


@pytest.mark.parametrize("metric", METRICS)
def test_a_loss_of_the_tolerance_is_found_on_nine_nights_of_ten(metric: str, rule: Rule) -> None:
    found = Counter(alone(metric, 1.0, 1000 + seed, rule) for seed in range(NIGHTS))
    assert found[REGRESSION] >= 0.9 * NIGHTS


@pytest.mark.parametrize("metric", METRICS)
def test_a_loss_of_the_alarm_line_depends_on_chance_and_is_mostly_said(metric: str, rule: Rule) -> None:
    """Half of the time less than the line is seen; then it is said only where it is significant."""
    found = Counter(alone(metric, rule.alarm_line, 2000 + seed, rule) for seed in range(50))
    assert found[REGRESSION] + found[WARN] >= 35
    assert found[REGRESSION] < 25


@pytest.mark.parametrize("metric", METRICS)
def test_a_loss_of_a_third_of_the_tolerance_is_never_a_regression(metric: str, rule: Rule) -> None:
    assert REGRESSION not in {alone(metric, 1 / 3, 3000 + seed, rule) for seed in range(100)}


def test_nor_are_such_losses_everywhere_at_once(rule: Rule) -> None:
    loss = {key: rule.tolerance[key[1]] / 3 for key in KEYS}
    assert REGRESSION not in {night(RELATIVES, loss, 4000 + seed, rule) for seed in range(50)}


@pytest.mark.parametrize("pair", [RELATIVES, STRANGERS], ids=["relatives", "strangers"])
def test_what_is_said_to_be_detectable_is_detected_and_confirmed(pair: tuple[str, str], rule: Rule) -> None:
    """A loss of the size that the nights state, on 90 % of them, neither much less nor much more often."""
    rng, key = np.random.default_rng(5), ("attcat", "aopc")
    looks = [statistical(compared(rng.permutation(160)[:EXAMPLES], pair, {}, rng), rule) for _ in range(20)]
    stated = float(np.mean([finding.detectable for look in looks for finding in look if finding.key == key]))
    found = Counter(night(pair, {key: stated}, 6000 + seed, rule) for seed in range(NIGHTS))
    assert 0.85 <= found[REGRESSION] / NIGHTS <= 0.97


@pytest.mark.parametrize("metric", METRICS)
def test_large_differences_hide_a_loss_of_the_tolerance_and_that_is_said(metric: str, rule: Rule) -> None:
    rng = np.random.default_rng(7)
    look = statistical(compared(rng.permutation(160)[:EXAMPLES], STRANGERS, {}, rng), rule)
    needed = [finding.n_needed or 0 for finding in look if finding.metric == metric]
    assert 800 < min(needed) < max(needed) < 3000
    found = Counter(alone(metric, 1.0, 7000 + seed, rule, STRANGERS) for seed in range(50))
    assert found[REGRESSION] <= 2
    assert found[WARN] >= 40  # whatever the loss: a mean that moves far is said, even where chance explains it


def test_accuracy_needs_as_many_examples_as_are_said(rule: Rule) -> None:
    """A loss of the tolerance, among the other comparisons of a night: hardly ever found with 80 examples."""

    def share(n: int, nights: int) -> float:
        looks = [predictions(n, rule.tolerance[ACCURACY], seed) for seed in range(2 * nights)]
        found = [decide(looks[night], rule, lambda _, night=night: looks[night + nights]) for night in range(nights)]
        return sum(REGRESSION in {finding.level for finding in each} for each in found) / nights

    stated = next(f for f in statistical(predictions(EXAMPLES, 0.0, 0), rule) if f.metric == ACCURACY)
    assert stated.n_needed is not None
    assert 700 < stated.n_needed < 900
    assert share(EXAMPLES, 50) <= 0.1
    assert share(stated.n_needed, 50) >= 0.86


def predictions(n: int, loss: float, seed: int) -> Pairs:
    """A model that was always right and now errs at random, beside columns in which nothing moves."""
    right = (np.random.default_rng(seed).random(n) >= loss).astype(float)
    before = np.ones((n, 1 + len(KEYS)))
    after = before.copy()
    after[:, 0] = right
    return Pairs([(MODEL, ACCURACY), *KEYS], [str(row) for row in range(n)], before, after, np.ones_like(before))
