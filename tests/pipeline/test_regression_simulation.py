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
from pipeline.regression.compare import Pairs
from pipeline.regression.decide import PASS, REGRESSION, WARN, Rule, decide, direction

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


def night(pair: tuple[str, str], loss: dict[tuple[str, str], float], seed: int, rule: Rule) -> str:
    """The worst level of a simulated night: half of the reviews first, the other half to confirm."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(VALUES))
    shift = np.array([-direction(key[1]) * loss.get(key, 0.0) for key in KEYS])

    def compared(rows: np.ndarray) -> Pairs:
        before = VALUES[rows]
        after = before + noise(pair, len(rows), rng) + shift
        return Pairs(KEYS, [str(row) for row in rows], before, after, np.ones_like(before))

    halves = np.split(order, 2)
    levels = {f.level for f in decide(compared(halves[0]), rule, lambda number: compared(halves[1]), rounds=1)}
    return REGRESSION if REGRESSION in levels else WARN if WARN in levels else PASS


@pytest.mark.parametrize("pair", [RELATIVES, STRANGERS], ids=["relatives", "strangers"])
def test_nights_without_a_change_raise_at_most_one_alarm_in_200(pair: tuple[str, str], rule: Rule) -> None:
    found = Counter(night(pair, {}, seed, rule) for seed in range(NIGHTS))
    assert found[REGRESSION] <= 1


@pytest.mark.parametrize("metric", METRICS)
def test_a_loss_of_one_and_a_half_tolerances_is_found_on_nine_nights_of_ten(metric: str, rule: Rule) -> None:
    """In one metric of one method alone, the hardest case."""
    loss = {("mask_lrp", metric): 1.5 * rule.tolerance[metric]}
    found = Counter(night(RELATIVES, loss, 1000 + seed, rule) for seed in range(50))
    assert found[REGRESSION] >= 45


@pytest.mark.parametrize("metric", METRICS)
def test_a_loss_of_the_tolerance_itself_is_mostly_a_warning(metric: str, rule: Rule) -> None:
    """Half of the time less than the tolerance is seen; then it is said only where it is significant."""
    loss = {("mask_lrp", metric): rule.tolerance[metric]}
    found = Counter(night(RELATIVES, loss, 2000 + seed, rule) for seed in range(50))
    assert found[REGRESSION] + found[WARN] >= 35


def test_a_loss_well_within_the_tolerance_is_none(rule: Rule) -> None:
    loss = {("mask_lrp", metric): 0.5 * rule.tolerance[metric] for metric in METRICS}
    assert REGRESSION not in {night(RELATIVES, loss, 3000 + seed, rule) for seed in range(50)}


def test_what_is_said_to_be_detectable_is_detected(rule: Rule) -> None:
    """A loss of the size each finding states is found on 90 % of single looks."""
    rng, key = np.random.default_rng(5), ("attcat", "aopc")
    column = KEYS.index(key)

    def look(loss: float) -> tuple[str, float]:
        before = VALUES[rng.permutation(len(VALUES))[:EXAMPLES]]
        after = before + noise(STRANGERS, EXAMPLES, rng)
        after[:, column] -= loss
        pairs = Pairs(KEYS, [str(row) for row in range(EXAMPLES)], before, after, np.ones_like(before))
        finding = next(f for f in decide(pairs, rule, lambda number: pairs, rounds=0) if f.key == key)
        return finding.level, float(finding.detectable or 0.0)

    stated = float(np.mean([look(0.0)[1] for _ in range(20)]))
    found = sum(look(stated)[0] == REGRESSION for _ in range(200))
    assert 0.82 <= found / 200 <= 0.97
