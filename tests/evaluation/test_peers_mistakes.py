"""What other libraries are known to get wrong, each as a test; here are those that no test of a metric's own holds.

- Quantus' Monotonicity that is always true, its first batch that decides for all, and swallowed errors: the cases of
  `test_the_kit_says_what_is_wrong`; its comparison of floats with ==: `test_conservation_error_is_relative_...`.
- Ferret's AOPC that signs decide: `test_the_same_order_has_the_same_value_whatever_the_signs`; its data sets that
  raise: every test of a run, and `test_workers_of_ray_give_the_same_bytes`.
- ERASER's lost flips: `decision_flip_fraction` in test_analytic_values. mt-upc's running minima:
  `test_running_minima_are_found_by_a_case_of_ones_own`.
- Captum's GradientShap in one batch: `test_conformance.py`, whose small `max_tokens` change no score.
- transformers 5 without `head_mask`, and attention that SDPA hides: tests/attribution/heads, and
  `test_sdpa_and_eager_models_get_the_same`.
"""

from __future__ import annotations

import pytest
import torch
from tiny_models import tiny_model

from attribution import Explainer, InputError
from attribution.model.inputs import Inputs
from evaluation import CURVES, evaluate_all, run_curves
from evaluation.faithfulness import delta_area
from evaluation.randomised import neighbour_scores

IDS = torch.tensor([[2, 12, 19, 10, 16, 14, 3]])
MASK = torch.ones_like(IDS)
SCORES = torch.tensor([[9.0, 0.3, -0.2, 0.1, 0.5, -0.4, 9.0]], dtype=torch.float64)


def test_lxts_table_is_the_area_between_logits_with_zeroed_embeddings():
    """AttnLRP's table 1, which exists as a comment in an issue alone; the first and last token are special."""
    model = tiny_model("bert", layers=1)
    explainer = Explainer(model)
    families = {name: CURVES[name].request(SCORES, CURVES[name].levels, "zero_embedding") for name in ("morf", "lerf")}
    special = torch.tensor([[1, 0, 0, 0, 0, 0, 1]])
    curves = run_curves(explainer, Inputs.of(IDS, MASK, special_tokens_mask=special), families, target=1)
    found = delta_area(curves["morf"], curves["lerf"], "logit")

    def logit(zeroed):
        embedded = model.get_input_embeddings()(IDS).clone()
        embedded[0, zeroed] = 0
        with torch.no_grad():
            return model(inputs_embeds=embedded, attention_mask=MASK).logits[0, 1].double()

    order = [4, 1, 3, 2, 5]  # by score; 5 and 2 are the least relevant
    areas = []
    for ranking in (order[::-1], order):
        heights = torch.stack([logit(ranking[:k]) for k in range(6)])
        areas.append(float(torch.trapezoid(heights, dx=0.2)))
    assert float(found) == pytest.approx(areas[0] - areas[1], abs=1e-9)


def test_a_generator_of_metrics_is_read_once():
    """Interpreto iterates several times, so that nothing is left of it."""
    explainer = Explainer(tiny_model("bert", layers=1))
    asked = ["aopc", "tau_loo", "gini"]
    listed, drawn = (
        evaluate_all(explainer, IDS, MASK, {"m": SCORES}, metrics, target=1)
        for metrics in (asked, (metric for metric in asked))
    )
    assert list(drawn.values["m"]) == asked
    assert all(torch.equal(listed.values["m"][metric], drawn.values["m"][metric]) for metric in asked)


@pytest.mark.parametrize("operator", [None, "delete", "zero_embedding", "mean_embedding"])
def test_no_token_is_made_up_for_a_model_without_a_mask(operator):
    """Interpreto enlarges the embeddings by an untrained token and measures that."""
    model = tiny_model("gpt2", layers=1)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    explainer = Explainer(model)
    found = evaluate_all(explainer, IDS, MASK, {"m": SCORES}, ["aopc"], target=1, operator=operator)
    assert bool(found.values["m"]["aopc"].isfinite().all())
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())
    with pytest.raises(InputError, match="no mask token"):
        evaluate_all(explainer, IDS, MASK, {"m": SCORES}, ["aopc"], target=1, operator="mask")


def test_noise_is_of_the_models_precision(monkeypatch):
    """Captum draws it on the processor in single precision."""
    model, seen = tiny_model("bert", torch.bfloat16, layers=1), []
    model.bert.embeddings.LayerNorm.register_forward_pre_hook(lambda module, given: seen.append(given[0].dtype))
    found = neighbour_scores(Explainer(model), Inputs.of(IDS, MASK), "input_x_gradient", target=1, n=2)
    assert set(seen) == {torch.bfloat16}
    assert bool(found.isfinite().all())
    assert not torch.equal(found[:, 0], found[:, 1])


def test_parameters_of_one_method_do_not_reach_the_next():
    """Quantus changes its own arguments within the loop over methods."""
    explainer = Explainer(tiny_model("bert", layers=1))
    own = {"method": "lime", "n_samples": 5, "seed": 3}
    methods = {"own": dict(own), "plain": "lime"}
    for order in (["own", "plain"], ["plain", "own"]):
        found = explainer.scores_many(IDS, MASK, methods={label: methods[label] for label in order}, target=1)
        assert torch.equal(found["plain"], explainer.scores(IDS, MASK, method="lime", target=1))
        assert torch.equal(found["own"], explainer.scores(IDS, MASK, method="lime", n_samples=5, seed=3, target=1))
    assert methods["own"] == own
