"""Gradients of the word embeddings against linear models, finite differences and the completeness they promise."""

from __future__ import annotations

import math

import pytest
import torch
from bag_of_words import MASK, PAD, bag_of_words, contributions
from tiny_models import tiny_model
from torch.nn.functional import one_hot

from attribution import METHODS, Explainer, InputError, Inputs, Target
from attribution.methods.gradients import NORMS

IDS = torch.tensor([[2, 11, 12, 13, 14, 15, 3], [2, 21, 22, 3, 0, 0, 0]])
VISIBLE = (IDS != 0).long()
SPECIAL = torch.isin(IDS, torch.tensor([0, 2, 3])).long()
CONTENT = SPECIAL == 0


def scored(model, method, target=1, ids=IDS, **parameters):
    explainer = model if isinstance(model, Explainer) else Explainer(model)
    methods = {"m": {"method": method, **parameters}}
    return explainer.scored_many(ids, VISIBLE, methods=methods, target=target, special_tokens_mask=SPECIAL)["m"]


@pytest.fixture(scope="module")
def bag():
    return bag_of_words()


@pytest.mark.parametrize(
    ("method", "parameters", "less"),
    [
        ("input_x_gradient", {}, None),
        ("integrated_gradients", {"n_steps": 1}, PAD),
        ("integrated_gradients", {"n_steps": 3, "baseline": "mask"}, MASK),
        ("gradient_shap", {"n_samples": 2}, PAD),
    ],
)
def test_a_linear_model_is_explained_exactly(bag, method, parameters, less):
    given = contributions(bag, IDS, 1)
    expected = given * VISIBLE if less is None else (given - contributions(bag, torch.tensor(less), 1)) * CONTENT
    torch.testing.assert_close(scored(bag, method, **parameters).scores, expected, rtol=0, atol=1e-12)


def test_a_zero_baseline_leaves_what_the_tokens_give(bag):
    found = scored(bag, "integrated_gradients", baseline="zero").scores
    torch.testing.assert_close(found, contributions(bag, IDS, 1) * CONTENT, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_saliency_of_a_linear_model_is_the_size_of_its_weights(bag, norm):
    size = NORMS[norm](bag.head.weight[1].detach())
    torch.testing.assert_close(scored(bag, "saliency", norm=norm).scores, size * VISIBLE, rtol=0, atol=1e-12)
    smoothed = scored(bag, "smooth_grad", norm=norm, n_samples=2).scores
    torch.testing.assert_close(smoothed, size * VISIBLE, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "target"), [("bert", 1), ("bert_qa", "start"), ("gpt2", 0), ("roberta", 1)])
def test_gradients_are_finite_differences(name, target):
    """input_x_gradient is the slope of the value as one token's embedding grows."""
    model = tiny_model(name)
    explainer = Explainer(model)
    scores = scored(explainer, "input_x_gradient", target).scores

    def value(factor):
        hook = model.get_input_embeddings().register_forward_hook(lambda module, args, out: out * factor)
        try:
            return scored(explainer, "value_alone", target).facts["value"]
        finally:
            hook.remove()

    step, column = 1e-5, one_hot(torch.tensor(2), IDS.shape[1])[None, :, None].double()
    slope = (value(1 + step * column) - value(1 - step * column)) / (2 * step)
    torch.testing.assert_close(scores[:, 2], slope, rtol=1e-5, atol=1e-8)


@pytest.fixture(autouse=True)
def value_alone(monkeypatch):
    """A method that knows nothing but the explained value."""
    from attribution.asking import Scored
    from attribution.capture import Need
    from attribution.methods.registry import register

    @register("value_alone", needs=Need.NOTHING, source="test")
    def value_alone(capture):
        return Scored(torch.zeros_like(capture.visible, dtype=torch.float64), {"value": capture.value})

    monkeypatch.setitem(METHODS, "value_alone", METHODS.pop("value_alone"))


@pytest.mark.parametrize("output", ["logit", "probability"])
@pytest.mark.parametrize(("name", "target"), [("bert", 1), ("roberta", 0), ("bert_qa", "span")])
def test_integrated_gradients_add_up_to_the_change(name, target, output):
    explainer = Explainer(tiny_model(name))
    found = explainer.scored_many(
        IDS,
        VISIBLE,
        methods={"m": {"method": "lig", "n_steps": 50, "tolerance": None}},
        target=target,
        special_tokens_mask=SPECIAL,
        output=output,
    )["m"]
    change = found.facts["value"] - found.facts["baseline_value"]
    torch.testing.assert_close(found.scores.sum(1), change, rtol=1e-8, atol=0)
    torch.testing.assert_close(found.facts["completeness_error"], found.scores.sum(1) - change, rtol=0, atol=1e-12)
    assert (found.scores[SPECIAL == 1] == 0).all()


@pytest.mark.parametrize(("steps", "share"), [(20, 5e-2), (50, 1.5e-2), (200, 2e-3)])
def test_integrated_gradients_of_kinks_add_up_to_what_their_steps_let_them(steps, share):
    """A node more or less on one side of a kink; how much that is depends on how large the weights are."""
    model = tiny_model("bert")
    for layer in model.bert.encoder.layer:
        layer.intermediate.intermediate_act_fn = torch.nn.ReLU()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.25 if parameter.ndim > 1 else 1)
    found = scored(model, "integrated_gradients", [0, 1], n_steps=steps, tolerance=None)
    change = found.facts["value"] - found.facts["baseline_value"]
    error = (found.facts["completeness_error"] / change).abs()
    assert 1e-8 < error.max() < share


@pytest.mark.parametrize(("name", "target"), [("bert", [0, 1]), ("gpt2", [0, 1]), ("bert_qa", "span")])
def test_integrated_gradients_add_up_in_single_precision(name, target):
    found = scored(tiny_model(name, torch.float32), "integrated_gradients", target, n_steps=50, tolerance=None)
    change = (found.facts["value"] - found.facts["baseline_value"]).abs().clamp(min=1e-2)
    assert (found.facts["completeness_error"].abs() / change).max() < 1e-4


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_integrated_gradients_of_a_difference_are_the_difference(name):
    """Linear in what is explained; where a token is the baseline nothing is divided."""
    explainer = Explainer(tiny_model(name))
    ids = torch.where(torch.arange(7) == 3, explainer.adapter.pad_id, IDS)
    options = {"n_steps": 5, "tolerance": None, "ids": ids, "baseline": "pad"}
    one, other = (scored(explainer, "integrated_gradients", label, **options).scores for label in (1, 0))
    contrast = scored(explainer, "integrated_gradients", Target("class", index=1, contrast=0), **options).scores
    torch.testing.assert_close(contrast, one - other, rtol=0, atol=1e-12)
    assert (one[0, 3] == 0) & (one[0, 2] != 0)


def test_the_baseline_is_the_models_own_padding_token():
    """Id 0 is the start of the text in RoBERTa's vocabulary."""
    model = tiny_model("roberta")
    explainer = Explainer(model)
    found = scored(explainer, "integrated_gradients", ids=IDS + 10)
    baseline = torch.where(CONTENT, model.config.pad_token_id, IDS + 10)
    logits = explainer.adapter.logits(Inputs.of(baseline, VISIBLE))
    assert model.config.pad_token_id == 1
    torch.testing.assert_close(found.facts["baseline_value"], logits[:, 1].clone(), rtol=0, atol=1e-12)


def test_nodes_double_only_where_the_error_is_too_large():
    explainer = Explainer(tiny_model("bert_qa"))
    once = scored(explainer, "integrated_gradients", "start", n_steps=3, tolerance=None)
    change = (once.facts["value"] - once.facts["baseline_value"]).abs().clamp(min=1e-2)
    errors = (once.facts["completeness_error"].abs() / change).sort().values
    between = float((errors[0] * errors[1]).sqrt())
    assert errors[1] > 1.3 * errors[0]
    found = scored(explainer, "integrated_gradients", "start", n_steps=3, tolerance=between)
    worst = (once.facts["completeness_error"].abs() / change).argmax()
    assert found.facts["steps"][worst] > 3
    assert found.facts["steps"][1 - worst] == 3
    steps = int(found.facts["steps"][worst])
    assert found.facts["backwards"].tolist()[worst] == 2 * steps - 3
    assert (found.facts["forwards"] == found.facts["backwards"] + 1).all()
    assert torch.equal(found.scores[1 - worst], once.scores[1 - worst])
    assert (found.facts["completeness_error"].abs() / change).max() <= between


def test_steps_are_bounded():
    found = scored(tiny_model("bert_qa"), "integrated_gradients", "start", n_steps=2, tolerance=1e-15, max_steps=9)
    assert found.facts["steps"].tolist() == [8, 8]
    assert found.facts["backwards"].tolist() == [14, 14]


def test_nodes_keep_the_digits_of_a_double_model():
    """Captum's weights are float32, which stops it at 1e-9."""
    found = scored(tiny_model("bert"), "integrated_gradients", n_steps=50, tolerance=None)
    change = found.facts["value"] - found.facts["baseline_value"]
    assert (found.facts["completeness_error"] / change).abs().max() < 1e-12


def test_smooth_grad_without_noise_is_saliency():
    explainer = Explainer(tiny_model("bert"))
    torch.testing.assert_close(
        scored(explainer, "smooth_grad", noise=0.0, n_samples=2).scores,
        scored(explainer, "saliency").scores,
        rtol=0,
        atol=1e-12,
    )


def test_gradient_shap_comes_to_integrated_gradients():
    explainer = Explainer(tiny_model("bert"))
    exact = scored(explainer, "integrated_gradients", n_steps=200, tolerance=None).scores
    methods = {str(seed): {"method": "gradient_shap", "n_samples": 10, "seed": seed} for seed in range(40)}
    given = {"methods": methods, "target": 1, "special_tokens_mask": SPECIAL}
    runs = torch.stack(list(explainer.scores_many(IDS, VISIBLE, **given).values()))
    error = runs.std(0) / math.sqrt(len(runs))
    assert ((runs.mean(0) - exact).abs() <= 3 * error + 1e-12).all()
    assert (runs[0] != runs[1]).any()


@pytest.mark.parametrize("method", ["smooth_grad", "gradient_shap"])
def test_draws_are_those_of_the_row(method):
    explainer = Explainer(tiny_model("bert"))
    both = scored(explainer, method).scores
    flipped = explainer.scored_many(
        IDS.flip(0), VISIBLE.flip(0), methods={"m": method}, target=1, special_tokens_mask=SPECIAL.flip(0)
    )["m"].scores
    torch.testing.assert_close(flipped.flip(0), both, rtol=0, atol=1e-12)
    assert (scored(explainer, method, seed=1).scores != both).any()


@pytest.mark.parametrize(
    ("method", "parameters", "says"),
    [
        ("saliency", {"norm": "l3"}, "norm=l3 is unknown; choices: l2, l1, max, sum"),
        ("integrated_gradients", {"baseline": "mask"}, "baseline=mask cannot be used .* pad, zero"),
        ("integrated_gradients", {"baseline": "noise"}, "choices: pad, mask, unk, zero"),
        ("integrated_gradients", {"n_steps": 0}, "n_steps=0 is not a positive"),
        ("gradient_shap", {"n_samples": 0}, "n_samples=0 is not a positive"),
        ("lgi", {}, "Did you mean lig"),
    ],
)
def test_what_cannot_be_is_named(method, parameters, says):
    with pytest.raises(InputError, match=says):
        scored(tiny_model("bert"), method, **parameters)
