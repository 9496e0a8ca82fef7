"""Metrics of curves against the value table of the specification and against their definitions."""

from __future__ import annotations

import math

import pytest
import torch

from attribution.errors import InputError
from evaluation import CURVES, METRICS, Curves, evaluate
from evaluation.faithfulness import log_odds_steps, probability_drops
from evaluation.metric import CATEGORIES
from evaluation.removals import REMOVALS


def curves_of(intact, perturbed):
    """Curves of class 1 of 2 from its probabilities [B] and [B, K]."""
    intact, perturbed = (torch.as_tensor(p, dtype=torch.float64) for p in (intact, perturbed))
    both, both_intact = (torch.stack((1 - p, p), -1).log() for p in (perturbed, intact))
    k = perturbed.shape[1]
    counts = torch.arange(1, k + 1).expand(len(perturbed), -1)
    target = torch.ones(len(perturbed), dtype=torch.long)
    return Curves(counts, counts / k, both, both, both_intact, both_intact, target)


SPEC = curves_of([0.9, 0.8], [[0.9 - 0.1 * j for j in range(1, 10)], [0.8 * 0.9**j for j in range(1, 10)]])
SPEC_AOPC = [0.090000, 0.176000, 0.258400, 0.337560, 0.413804, 0.487424, 0.558681, 0.627813, 0.695032]


def test_value_table_of_the_specification():
    assert probability_drops(SPEC).mean(0).tolist() == pytest.approx(SPEC_AOPC, abs=5e-7)
    assert float(METRICS["aopc"](SPEC).mean()) == pytest.approx(0.4049681956, abs=5e-11)


def test_log_odds_of_the_specification():
    second = [j * math.log(0.9) for j in range(1, 10)]
    first = [math.log((0.9 - 0.1 * j) / 0.9) for j in range(1, 9)]
    assert log_odds_steps(SPEC)[1].tolist() == pytest.approx(second)
    assert log_odds_steps(SPEC)[0, :8].tolist() == pytest.approx(first)
    assert float(METRICS["log_odds"](SPEC)[1]) == pytest.approx(sum(second) / 9)


@pytest.mark.parametrize("metric", ["aopc", "log_odds", "comprehensiveness", "sufficiency"])
def test_nothing_changes_nothing(metric):
    assert METRICS[metric](curves_of([0.3, 1.0], [[0.3] * 4, [1.0] * 4])).tolist() == [0, 0]


def test_log_odds_stay_finite_where_a_probability_underflows():
    logits = torch.tensor([[[0.0, -200.0], [0.0, -400.0]]])
    intact = torch.tensor([[0.0, 0.0]])
    curves = Curves(
        torch.tensor([[1, 2]]), torch.tensor([[0.5, 1.0]]), logits, logits.log_softmax(-1), intact,
        intact.log_softmax(-1), torch.tensor([1]),
    )  # fmt: skip
    assert curves.probabilities[0, :, 1].tolist() == [0, 0]
    assert float(METRICS["log_odds"](curves)) == pytest.approx(-300 + math.log(2), rel=1e-6)


def test_spans_average_start_and_end():
    probabilities = torch.tensor([[[0.4, 0.1], [0.2, 0.1]]], dtype=torch.float64).log()
    intact = torch.tensor([[0.8, 0.5]], dtype=torch.float64).log()
    counts = torch.tensor([[1, 2]])
    span = torch.tensor([[3, 5]])
    curves = Curves(counts, counts / 2, probabilities, probabilities, intact, intact, span)
    assert float(METRICS["aopc"](curves)) == pytest.approx((0.4 + 0.4 + 0.6 + 0.4) / 4)
    ratios = math.log(1 / 2) + math.log(1 / 5) + math.log(1 / 4) + math.log(1 / 5)
    assert float(METRICS["log_odds"](curves)) == pytest.approx(ratios / 4)


def test_families_ask_for_the_curves_their_metrics_are_read_from():
    scores = torch.zeros(1, 4)
    removal, comprehensiveness, sufficiency = (
        CURVES[METRICS[metric].curve].request(scores, [3], "mask")
        for metric in ("aopc", "comprehensiveness", "sufficiency")
    )
    assert (removal.levels, removal.keep, removal.operator) == ([3], False, "mask")
    assert (comprehensiveness.levels, comprehensiveness.keep) == ((0.01, 0.05, 0.10, 0.20, 0.50), False)
    assert (sufficiency.levels, sufficiency.keep) == ((0.01, 0.05, 0.10, 0.20, 0.50), True)
    assert METRICS["log_odds"].curve == "aopc"


LOWER_IS_BETTER = {
    "log_odds", "sufficiency", "aopc_sufficiency", "auc_morf", "decision_flip_fraction", "joint_log_odds",
    "answer_flip_fraction", "infidelity", "au_mse", "conservation_error", "entropy", "effective_complexity", "mass_90",
    "mprt", "random_logit", "max_sensitivity", "avg_sensitivity", "label_randomisation",
    "relative_input_stability", "relative_output_stability", "relative_representation_stability", "local_lipschitz",
    "pgu", "comprehensiveness_entropy", "sufficiency_kl",
}  # fmt: skip


def test_directions():
    assert {metric.id for metric in METRICS.values() if not metric.higher_is_better} == LOWER_IS_BETTER


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_every_metric_says_what_it_is(metric):
    assert METRICS[metric.id] is metric
    assert metric.formula
    assert metric.source
    assert metric.range[0] < metric.range[1]
    assert metric.category in CATEGORIES
    assert metric.curve in {None, *CURVES}
    assert ("curves" in metric.needs) == (metric.curve is not None)
    assert set(metric.prepared) <= set(metric.needs)
    assert set(metric.prepared.values()) <= {*CURVES, *REMOVALS}
    assert all(METRICS[alias] is metric for alias in metric.aliases)


def test_evaluate_by_id_and_by_metric():
    assert torch.equal(evaluate("aopc", curves=SPEC), METRICS["aopc"](SPEC))
    assert torch.equal(evaluate(METRICS["aopc"], curves=SPEC), METRICS["aopc"](SPEC))


def test_evaluate_says_what_is_wrong():
    with pytest.raises(InputError, match=r"metric=aop .*Did you mean aopc.*aopc, .*comprehensiveness"):
        evaluate("aop", curves=SPEC)
    with pytest.raises(InputError, match=r"metric=answer_recall needs scores, answers.*not given: answers"):
        evaluate("answer_recall", scores=torch.zeros(1, 3))
