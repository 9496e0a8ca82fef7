"""Every metric where its exact value can be worked out by hand: a model that adds up one weight for each token.

Ten words of weights 1 to 10, in 200ths, after a token worth 0.4: p = 0.675. The best k are worth k (21 - k) / 400, the
worst k (k + 1) / 400.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from evaluation import CURVES, METRICS, REMOVALS, Curves, evaluate_all
from evaluation.analytic import CLS, FIRST_WORD, BagOfTokens, text_batch

ORDER = [3, 9, 0, 5, 7, 1, 8, 2, 6, 4]
P, EMPTY = 0.675, 0.4
TENS = range(11)


def top(k):
    return k * (21 - k) / 400


def bottom(k):
    return k * (k + 1) / 400


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def trapezoid(heights):
    return sum((a + b) / 20 for a, b in itertools.pairwise(heights))


def entropy(p):
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


def divergence(p, q):
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


ERASER = [1, 1, 1, 2, 5]  # tokens of 1, 5, 10, 20, 50 %
MORF, LERF = trapezoid([P - top(k) for k in TENS]), trapezoid([P - bottom(k) for k in TENS])
BY_PROBABILITY = {
    "aopc": mean(top(k) for k in range(1, 11)),
    "joint_aopc": mean(top(k) for k in range(1, 11)),
    "log_odds": mean(math.log((P - top(k)) / P) for k in range(1, 11)),
    "joint_log_odds": mean(math.log((P - top(k)) / P) for k in range(1, 11)),
    "comprehensiveness": mean(map(top, ERASER)),
    "sufficiency": mean(P - EMPTY - top(k) for k in ERASER),
    "normalised_comprehensiveness": mean(map(top, ERASER)) / (P - EMPTY),
    "normalised_sufficiency": mean(map(top, ERASER)) / (P - EMPTY),
    "pgi": mean(map(top, ERASER)),
    "pgu": mean(P - EMPTY - top(k) for k in ERASER),
    "comprehensiveness_entropy": mean(entropy(P) - entropy(P - top(k)) for k in ERASER),
    "sufficiency_entropy": mean(entropy(P) - entropy(EMPTY + top(k)) for k in ERASER),
    "comprehensiveness_kl": mean(divergence(P - top(k), P) for k in ERASER),
    "sufficiency_kl": mean(divergence(EMPTY + top(k), P) for k in ERASER),
    "aopc_comprehensiveness": mean(map(top, TENS)),
    "aopc_sufficiency": mean(P - EMPTY - top(k) for k in TENS),
    "auc_morf": MORF,
    "auc_lerf": LERF,
    "insertion_auc": trapezoid([EMPTY + top(k) for k in TENS]),
    "delta_auc": LERF - MORF,
    "monotonicity": 1.0,
    "decision_flip_fraction": 0.5,  # 4 words of the best are worth 0.17, 5 are worth 0.2; 0.175 is what it takes
    "decision_flip_top_1": 0.0,
    "tau_loo": 1.0,
    "monotonicity_correlation": 1.0,
    "gini": mean([(2 * i - 11) * i for i in range(1, 11)]) * 10 / (10 * 55),
    "entropy": -sum(i / 55 * math.log(i / 55) for i in range(1, 11)) / math.log(10),
    "effective_complexity": 1.0,
    "top_1_mass": 10 / 55,
    "mass_90": 0.8,  # the best seven have 49 of 55, the best eight 52
}
BY_LOGIT = {"faithfulness_estimate": 1.0, "faithfulness_correlation": 1.0, "sensitivity_n": 1.0, "infidelity": 0.0}
MARKED = {  # rationale: words of weights 10, 8, 2, 1; the best three are 10, 9, 8
    "auprc": (1 + 2 / 3 + 3 / 9 + 4 / 10) / 4,
    "token_f1": 2 * 2 / (3 + 4),
    "token_iou": 2 / 5,
    "r_precision": 2 / 4,
}
STABILITY = {  # in test_stability
    "mprt", "efficient_mprt", "random_logit", "max_sensitivity", "avg_sensitivity", "top_k_stability", "seed_stability",
    "dtype_stability", "label_randomisation", "relative_input_stability", "relative_output_stability",
    "relative_representation_stability", "local_lipschitz",
}  # fmt: skip
ELSEWHERE = {  # below, in test_association, test_plausibility, test_activation, test_context_mixing and test_pointing
    "answer_recall", "answer_f1_drop", "answer_flip_fraction", "iou_f1", "auac", "au_mse", "aupc", "conservation_error",
    "dot_product", "average_precision", "blank_out", "pointing_accuracy", "reciprocal_rank", "recall_at_5",
}  # fmt: skip


def weights():
    found = torch.zeros(FIRST_WORD + 10, dtype=torch.float64)
    found[CLS] = EMPTY
    found[FIRST_WORD:] = torch.arange(1, 11, dtype=torch.float64) / 200
    return found


def values(link, metrics, scores=None, **options):
    inputs = text_batch([[FIRST_WORD + word for word in ORDER]])
    scores = weights()[inputs.input_ids] if scores is None else scores
    model = BagOfTokens(weights(), link)
    run = evaluate_all(model, scores={"": scores}, metrics=list(metrics), target=1, **inputs.present(), **options)
    return {metric: float(found) for metric, found in run.values[""].items()}


def test_every_metric_has_its_value():
    known = {*BY_PROBABILITY, *BY_LOGIT, *MARKED, *STABILITY, *ELSEWHERE}
    assert known == set(METRICS)


@pytest.mark.parametrize("operator", ["mask", "delete", "unk", "pad", "attention_mask_out"])
def test_read_from_probabilities(operator):
    assert values("probability", BY_PROBABILITY, operator=operator) == pytest.approx(BY_PROBABILITY, abs=1e-12)


def test_read_from_logits():
    assert values("logit", BY_LOGIT) == pytest.approx(BY_LOGIT, abs=1e-12)


def test_read_from_a_rationale():
    marked = torch.tensor([[0, *(int(word + 1 in (10, 8, 2, 1)) for word in ORDER), 0]])
    given = {"rationale": marked, "rationale_length": 3}
    assert values("probability", MARKED, given=given) == pytest.approx(MARKED, abs=1e-12)


def test_the_opposite_explanation():
    """What it is worth where the weights are explained upside down."""
    inputs = text_batch([[FIRST_WORD + word for word in ORDER]])
    upside_down = -weights()[inputs.input_ids]
    expected = {
        "aopc": mean(bottom(k) for k in range(1, 11)),
        "auc_morf": LERF,
        "delta_auc": MORF - LERF,
        "decision_flip_fraction": 0.8,  # bottom(7) = 0.14, bottom(8) = 0.18
        "tau_loo": -1.0,
    }
    assert values("probability", expected, upside_down) == pytest.approx(expected, abs=1e-12)
    assert values("logit", ["faithfulness_correlation"], upside_down)["faithfulness_correlation"] == pytest.approx(-1)
    # The best factor may not be negative: what is left is all of the effect.
    scores = {"right": -upside_down, "wrong": upside_down}
    run = evaluate_all(
        BagOfTokens(weights(), "logit"), scores=scores, metrics=["infidelity"], target=1, **inputs.present()
    )
    assert float(run.values["wrong"]["infidelity"]) > 0.002 > 1e-12 > float(run.values["right"]["infidelity"])


def test_constant_scores_leave_the_variance_of_the_effects():
    inputs = text_batch([[FIRST_WORD + word for word in ORDER]])
    model = BagOfTokens(weights(), "logit")
    sets = REMOVALS["random_subsets"].plan(model, inputs).sets.removed[0].double()
    effects = sets @ weights()[inputs.input_ids][0, 1:-1]
    assert sets.sum(1).tolist() == [2] * 100
    constant = torch.ones(inputs.shape, dtype=torch.float64)
    found = values("logit", ["infidelity", "faithfulness_correlation", "tau_loo"], constant)
    assert found["infidelity"] == pytest.approx(float(effects.var(correction=0)), abs=1e-12)
    assert math.isnan(found["faithfulness_correlation"])
    assert math.isnan(found["tau_loo"])


def answers(spans, levels, target=(2, 4)):
    """Curves of a question whose answer is (2, 4), and (start, end) at each level."""
    k = len(spans)
    nothing = torch.zeros(1, k, 2, dtype=torch.float64)
    return Curves(
        torch.arange(1, k + 1)[None], torch.tensor([levels], dtype=torch.float64), nothing, nothing, nothing[:, 0],
        nothing[:, 0], torch.tensor([target]), predicted=torch.tensor([spans]),
        intact_predicted=torch.tensor([target]),
    )  # fmt: skip


def test_answers_that_change():
    spans = [(2, 4), (2, 2), (3, 9), (6, 7), (5, 4)]  # F1 with (2, 4): 1, 2/4, 4/10, 0, 0 (empty)
    curves = answers(spans, [0.1, 0.2, 0.3, 0.4, 0.5])
    assert METRICS["answer_f1_drop"](curves).tolist() == pytest.approx([1 - (1 + 0.5 + 0.4) / 5])
    assert METRICS["answer_flip_fraction"](curves).tolist() == pytest.approx([0.3])
    assert METRICS["answer_flip_fraction"](answers(spans[:2], [0.1, 0.2])).tolist() == [1]
    assert METRICS["answer_f1_drop"](answers(spans, [0.1] * 5, target=(4, 2))).isnan().tolist() == [True]
    assert METRICS["decision_flip_fraction"](curves).tolist() == pytest.approx([0.2])


def test_joint_is_the_product_of_start_and_end():
    p = torch.tensor([[[0.4, 0.1], [0.2, 0.1]]], dtype=torch.float64).log()
    intact = torch.tensor([[0.8, 0.5]], dtype=torch.float64).log()
    counts = torch.tensor([[1, 2]])
    curves = Curves(counts, counts / 2, p, p, intact, intact, torch.tensor([[3, 5]]))
    assert float(METRICS["joint_aopc"](curves)) == pytest.approx(0.4 - (0.04 + 0.02) / 2)
    assert float(METRICS["joint_log_odds"](curves)) == pytest.approx((math.log(0.04 / 0.4) + math.log(0.02 / 0.4)) / 2)


def test_short_texts_are_integrated_over_what_they_have():
    """Three words, eleven levels: the points are at 0, 1/3, 2/3 and 1 whatever the number of levels."""
    inputs = text_batch([[FIRST_WORD + word for word in (9, 4, 1)]])
    run = evaluate_all(
        BagOfTokens(weights()), scores={"": weights()[inputs.input_ids]}, metrics=["auc_morf", "monotonicity"],
        target=1, **inputs.present(),
    )  # fmt: skip
    heights = [EMPTY + left / 200 for left in (17, 7, 2, 0)]
    expected = sum((a + b) / 6 for a, b in itertools.pairwise(heights))
    assert float(run.values[""]["auc_morf"]) == pytest.approx(expected, abs=1e-12)


def test_deleting_everything_of_a_bare_text_keeps_one_token():
    """Without special tokens nothing is never left: normalised values are undefined, areas end where the curve does."""
    inputs = text_batch([[FIRST_WORD + word for word in (9, 4, 1)]])
    bare = {name: value[:, 1:-1] for name, value in inputs.present().items()}
    lifted = weights() + EMPTY / 2
    run = evaluate_all(
        BagOfTokens(lifted / 2), scores={"": weights()[bare["input_ids"]]},
        metrics=["normalised_comprehensiveness", "auc_morf"], target=1, operator="delete", **bare,
    )  # fmt: skip
    heights = [float(lifted[FIRST_WORD + torch.tensor(words)].sum()) / 2 for words in ([9, 4, 1], [4, 1], [1])]
    assert run.undefined == {"": {"normalised_comprehensiveness": 1, "auc_morf": 0}}
    expected = ((heights[0] + heights[1]) / 2 + (heights[1] + heights[2]) / 2) / 2
    assert float(run.values[""]["auc_morf"]) == pytest.approx(expected, abs=1e-12)


def test_families_are_those_of_their_metrics():
    for metric in METRICS.values():
        assert set(metric.prepared.values()) <= {*CURVES, *REMOVALS}
