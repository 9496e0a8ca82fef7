"""The gates on values side by side, against closed forms and scipy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from evaluation import bootstrap_columns, holm
from pipeline.regression.compare import Pairs, pairs_of, with_accuracy
from pipeline.regression.decide import IMPROVED, PASS, REGRESSION, WARN, Rule, decide, golden, statistical, undefined
from pipeline.regression.gates import cost, drift, moved_most, weak
from pipeline.schemas import EXAMPLES, PREDICTIONS, VALUES

RULE = Rule({"aopc": 0.03, "log_odds": 0.15, "accuracy": 0.03}, samples=2000)  # alarm lines 0.02, 0.1, 0.02


def pairs(before: np.ndarray, after: np.ndarray, metric: str = "aopc", weights: np.ndarray | None = None) -> Pairs:
    before, after = (np.asarray(side, dtype=float).reshape(len(side), -1) for side in (before, after))
    keys = [(f"m{column}", metric) for column in range(before.shape[1])]
    return Pairs(
        keys, [str(i) for i in range(len(before))], before, after, np.ones_like(before) if weights is None else weights
    )


def drawn(shift: float, spread: float = 0.01, n: int = 60, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    before = rng.uniform(-0.3, 0.9, n)
    moved = rng.normal(0, spread, n)
    return before, before + moved - moved.mean() + shift


def only(found: list) -> object:
    (finding,) = found
    return finding


# --- statistics -----------------------------------------------------------------------------------------------------


def test_columns_share_their_resamples_and_agree_with_scipy() -> None:
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=(40, 2)), rng.integers(0, 3, (40, 2)).astype(float)
    values[3, 0] = np.nan
    weights[3, 0] = 0.0
    means = bootstrap_columns(values, weights, samples=20000, seed=1)
    for column in range(2):
        low, high = np.quantile(means[:, column], [0.025, 0.975])
        theirs = stats.bootstrap(
            (np.nan_to_num(values[:, column]) * weights[:, column], weights[:, column]),
            lambda v, w, axis: v.sum(axis) / w.sum(axis),
            paired=True,
            method="percentile",
            rng=np.random.default_rng(2),
        ).confidence_interval
        assert (low, high) == pytest.approx(theirs, abs=0.02)


def test_resamples_are_the_same_however_they_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(30, 3))
    once = bootstrap_columns(values, np.ones_like(values), samples=50, seed=4)
    monkeypatch.setattr("evaluation.statistics.bootstrap.DRAWS_AT_ONCE", 100)
    cut = bootstrap_columns(values, np.ones_like(values), samples=50, seed=4)
    assert cut == pytest.approx(once, abs=1e-14)


def test_a_resample_without_weight_is_undefined() -> None:
    means = bootstrap_columns(np.array([[1.0], [9.0]]), np.array([[1.0], [0.0]]), samples=200, seed=0)
    assert 0 < np.isnan(means).sum() < 200
    assert np.nanmax(means) == np.nanmin(means) == 1.0


def test_holm_by_hand_and_against_its_definition() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, np.nan, 0.01]) == pytest.approx([0.5, np.nan, 0.02], nan_ok=True)
    rng = np.random.default_rng(3)
    p = rng.uniform(0, 0.2, 12)
    order = np.argsort(p)
    expected = [min(1, max((12 - j) * p[order[j]] for j in range(rank + 1))) for rank in range(12)]
    assert holm(p)[order] == pytest.approx(expected)


# --- the statistical gate -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "shift", "spread", "level"),
    [
        ("aopc", -0.03, 0.01, REGRESSION),  # significant and large, on the bad side
        ("aopc", +0.03, 0.01, IMPROVED),
        ("aopc", -0.01, 0.01, WARN),  # significant, but within the alarm line
        ("aopc", -0.03, 0.5, WARN),  # large, but not significant
        ("aopc", +0.01, 0.01, PASS),
        ("aopc", -0.001, 0.5, PASS),
        ("aopc", 0.0, 0.0, PASS),
        ("log_odds", +0.2, 0.01, REGRESSION),  # lower is better
        ("log_odds", -0.2, 0.01, IMPROVED),
        ("accuracy", -0.03, 0.01, REGRESSION),
    ],
)
def test_levels(metric: str, shift: float, spread: float, level: str) -> None:
    finding = only(statistical(pairs(*drawn(shift, spread), metric=metric), RULE))
    assert finding.level == level
    assert finding.delta == pytest.approx(shift)
    assert finding.low <= finding.delta <= finding.high


def test_a_loss_counts_from_the_alarm_line_on() -> None:
    before = np.linspace(0, 0.5, 40)
    rule = Rule({"aopc": 0.5}, alarm_line=0.5, samples=2000)
    on_the_line, beyond = (only(statistical(pairs(before, before - loss), rule)) for loss in (0.25, 0.26))
    assert (on_the_line.level, beyond.level) == (WARN, REGRESSION)
    assert (beyond.tolerance, beyond.line) == (0.5, 0.25)
    assert "alarm line 0.25" in beyond.text


def test_p_agrees_with_the_t_test_where_that_is_right() -> None:
    before, after = drawn(-0.004, 0.02, n=400)
    finding = only(statistical(pairs(before, after), Rule({"aopc": 0.02}, samples=40000)))
    assert finding.p == pytest.approx(stats.ttest_rel(after, before).pvalue, abs=5e-4)


def test_many_comparisons_need_more_than_one() -> None:
    """P = 0.02 alone is significant; as one of twenty it is not."""
    before, after = drawn(-0.03, 0.1, n=60)
    alone = only(statistical(pairs(before, after), RULE))
    assert 0.001 < alone.p < 0.05
    rng = np.random.default_rng(2)
    others = rng.normal(0, 1, (60, 19))
    noise = np.concatenate([after[:, None], others + rng.normal(0, 1, (60, 19))], axis=1)
    among = statistical(pairs(np.concatenate([before[:, None], others], axis=1), noise), RULE)[0]
    assert alone.level == REGRESSION
    assert among.level == WARN
    assert among.p == pytest.approx(20 * alone.p, rel=0.5)


def test_weights_and_undefined_values_are_left_out() -> None:
    before, after = drawn(-0.03)
    after[0] = np.nan
    weights = np.ones((60, 1))
    weights[1] = 0.0
    finding = only(statistical(pairs(before, after, weights=weights), RULE))
    assert finding.n == 58
    assert finding.delta == pytest.approx(np.mean((after - before)[2:]))


def test_the_sample_is_drawn_large_enough_for_holm() -> None:
    """With 300 columns the smallest P value of 10 resamples could never be significant."""
    before = np.random.default_rng(0).normal(size=(30, 300))
    found = statistical(pairs(before, before - 1.0), Rule({"aopc": 0.02}, samples=10))
    assert {finding.level for finding in found} == {REGRESSION}


# --- the other gates ------------------------------------------------------------------------------------------------


def test_golden_values_have_to_be_the_same() -> None:
    before = np.array([0.1, np.nan, 0.3])
    assert golden(pairs(before, before.copy()), RULE).level == PASS
    off = golden(pairs(before, np.array([0.1, np.nan, 0.3 + 1e-12])), RULE)
    assert (off.level, off.method) == (REGRESSION, "m0")
    assert golden(pairs(before, np.array([0.1, np.nan, 0.3 + 1e-12])), Rule({}, golden=1e-9)).level == PASS
    assert golden(pairs(before, np.array([0.1, 0.2, 0.3])), RULE).delta == np.inf


def test_values_that_went_missing_do_not_pass() -> None:
    before = np.zeros(300)
    after = before.copy()
    after[:3] = np.nan
    assert only(undefined(pairs(before, after))).level == WARN
    after[:4] = np.nan
    assert only(undefined(pairs(before, after))).level == REGRESSION
    assert undefined(pairs(after, before)) == []


def test_a_regression_counts_when_it_is_found_again() -> None:
    asked: list[int] = []

    def fresh(shift: float):
        def compute(number: int) -> Pairs:
            asked.append(number)
            return pairs(*drawn(shift, seed=9 + number))

        return compute

    night, twice = pairs(*drawn(-0.03)), replace(RULE, confirmations=2)
    confirmed = only(decide(night, twice, fresh(-0.03)))
    assert (confirmed.level, confirmed.confirmed, asked) == (REGRESSION, True, [0, 1])
    gone = only(decide(night, twice, fresh(0.0)))
    assert (gone.level, gone.confirmed, asked) == (WARN, False, [0, 1, 0])
    assert "not confirmed on fresh seeds" in gone.text


def test_nothing_is_computed_again_where_nothing_was_found() -> None:
    def fresh(number: int) -> Pairs:
        raise AssertionError("asked for a confirmation")

    assert only(decide(pairs(*drawn(0.0)), RULE, fresh)).level == PASS


def run(seconds: float, peak: int | None, reused: int = 0, worker: int = 500) -> dict:
    memory = {} if peak is None else {"memory": {"driver_peak_mib": peak, "worker_peak_mib": worker}}
    return {"timings": {"attribute": seconds, "prepare": 99.0}, "reuse": {"attribute": {"reused": reused}}, **memory}


@pytest.mark.parametrize(
    ("candidate", "levels", "words"),
    [
        (run(14.0, 140), [PASS, PASS, PASS], ""),
        (run(16.0, 140), [WARN, PASS, PASS], "16 s, the champion took 10 s"),
        (run(14.0, 160), [PASS, WARN, PASS], "160 MiB"),
        (run(14.0, 140, worker=800), [PASS, PASS, WARN], "worker_memory: 800 MiB, the champion took 500 MiB"),
        (run(99.0, 999, reused=3), [PASS, PASS, PASS], "memory not compared: the candidate reused results"),
        (run(14.0, None), [PASS, PASS, PASS], "memory not compared: it was not measured"),
    ],
)
def test_time_and_memory_only_warn(candidate: dict, levels: list[str], words: str) -> None:
    found = list(cost(run(10.0, 100), candidate, [], {"runtime": 1.5, "memory": 1.5}))
    assert [finding.level for finding in found] == levels
    assert words in " ".join(finding.text for finding in found)


def test_small_losses_that_add_up_are_noticed_once() -> None:
    since = pairs(*drawn(-0.05))
    drifts, warnings = drift(since, RULE, [])
    assert drifts[0].delta == pytest.approx(-0.05)
    assert [finding.level for finding in warnings] == [WARN]
    assert (warnings[0].line, warnings[0].tolerance) == (pytest.approx(0.02), 0.03)
    assert drift(since, RULE, statistical(since, RULE))[1] == []
    tonight = statistical(pairs(*drawn(-0.01)), RULE)
    assert only(tonight).level == WARN
    assert len(drift(since, RULE, tonight)[1]) == 1  # a small loss tonight does not hide how many there were


def test_what_moved_most_comes_first() -> None:
    before = np.zeros(20)
    after = np.zeros(20)
    after[[3, 7, 9]] = [-0.5, -0.7, 0.6]
    moves = moved_most(pairs(before, after), [], RULE, {"7": 70})
    assert [(move.item_id, move.row_index) for move in moves] == [("7", 70), ("9", -1), ("3", -1)]
    assert moves[1].loss == pytest.approx(-0.6)


def test_a_night_that_is_too_small_says_so_and_how_many_examples_it_needs() -> None:
    assert weak(statistical(pairs(*drawn(0.0, 0.01)), RULE)) == []
    (few,) = statistical(pairs(*drawn(0.0, 0.1, n=50)), RULE)
    assert few.detectable > 0.03
    (note,) = weak([few])
    assert note.startswith("1 of 1 comparisons find a loss of the tolerance on fewer than 9 nights of 10: m0 aopc")
    assert f"needs about {few.n_needed} examples for 0.03" in note
    before, after = drawn(0.0, 0.1, n=50)
    times = -(-few.n_needed // 50)
    (enough,) = statistical(pairs(np.tile(before, times), np.tile(after, times)), RULE)
    assert 0.027 < enough.detectable <= 0.0303
    assert enough.n_needed == pytest.approx(few.n_needed, rel=0.1)


def test_more_confirmations_find_less() -> None:
    column = pairs(*drawn(0.0, 0.1))
    once, thrice = (only(statistical(column, replace(RULE, confirmations=number))) for number in (0, 3))
    assert once.detectable < thrice.detectable
    assert once.n_needed < thrice.n_needed


def test_accuracy_has_a_spread_even_where_every_prediction_stayed() -> None:
    right = np.ones(80)
    (accuracy,) = statistical(pairs(right, right, "accuracy"), RULE)
    (aopc,) = statistical(pairs(right, right), RULE)
    assert (aopc.n_needed, aopc.detectable) == (1, pytest.approx(0.02))
    assert accuracy.n_needed > 80
    assert accuracy.detectable > 0.03


# --- tables ---------------------------------------------------------------------------------------------------------


def values(rows: list[tuple]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(VALUES.names, row, strict=True)) for row in rows], schema=VALUES)


def test_tables_meet_by_example_whatever_their_order() -> None:
    before = values([("a", "m", "aopc", 1.0, 2.0), ("b", "m", "aopc", 2.0, 3.0), ("c", "m", "aopc", 9.0, 1.0)])
    after = values([("b", "m", "aopc", 20.0, 7.0), ("a", "m", "aopc", 10.0, 7.0), ("a", "new", "aopc", 0.0, 1.0)])
    met = pairs_of(before, after)
    assert (met.keys, met.items) == ([("m", "aopc")], ["a", "b"])
    assert met.champion.tolist() == [[1.0], [2.0]]
    assert met.candidate.tolist() == [[10.0], [20.0]]
    assert met.weights.tolist() == [[2.0], [3.0]]


def test_accuracy_is_compared_where_there_are_labels() -> None:
    def tables(labels: list[int | None], end: int | None = None) -> tuple[pa.Table, pa.Table]:
        examples = [{"item_id": str(i), "label": label} for i, label in enumerate(labels)]
        predicted = [{"item_id": str(i), "predicted": 1, "predicted_end": end} for i in range(len(labels))]
        return pa.Table.from_pylist(examples, schema=EXAMPLES), pa.Table.from_pylist(predicted, schema=PREDICTIONS)

    found = with_accuracy(VALUES.empty_table(), *tables([1, 0])).to_pylist()
    assert [(row["method"], row["metric"], row["value"]) for row in found] == [
        ("(model)", "accuracy", 1.0),
        ("(model)", "accuracy", 0.0),
    ]
    assert with_accuracy(VALUES.empty_table(), *tables([1, None])).num_rows == 0
    assert with_accuracy(VALUES.empty_table(), *tables([1, 0], end=3)).num_rows == 0
    assert with_accuracy(VALUES.empty_table(), EXAMPLES.empty_table(), tables([1])[1]).num_rows == 0
