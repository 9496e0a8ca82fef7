"""Captum gives the same numbers where it computes the same thing, from the same draws.

Its results are float32 at best: sums and integration weights are cast, whatever the model.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import (
    GradientShap,
    InputXGradient,
    IntegratedGradients,
    LayerIntegratedGradients,
    NoiseTunnel,
    Occlusion,
    Saliency,
    ShapleyValueSampling,
)
from tiny_models import tiny_model

from attribution import Explainer
from attribution.draws import example_keys, normal, uniform
from attribution.methods.coalitions import orders
from attribution.methods.units import Units

PAD, TARGET, TOLERANCE = 0, 1, 1e-6
IDS = torch.tensor([[2, 11, 12, 13, 14, 15, 16, 3], [2, 21, 22, 23, 24, 25, 26, 3]])
SPECIAL = torch.isin(IDS, torch.tensor([2, 3])).long()
BASELINE = torch.where(SPECIAL == 1, IDS, PAD)
CONTENT = slice(1, 7)


@pytest.fixture(scope="module")
def explainer():
    return Explainer(tiny_model("bert"))


@pytest.fixture(scope="module")
def model(explainer):
    return explainer.model


def ours(explainer, method, **parameters):
    given = {"target": TARGET, "special_tokens_mask": SPECIAL, **parameters}
    return explainer.scores(IDS, method=method, **given)


def embedded(model, ids):
    return model.get_input_embeddings()(ids).detach()


def of_embeddings(model):
    return lambda embeddings: model(inputs_embeds=embeddings).logits


def of_content(model):
    """Logits from the ids of the content alone; special tokens are put around them."""

    def logits(content):
        rows = IDS[:1].expand(len(content), -1).clone()
        rows[:, CONTENT] = content
        return model(input_ids=rows).logits

    return logits


def keys(seed=0):
    return example_keys(IDS, torch.ones_like(IDS), seed)


def close(found, expected):
    torch.testing.assert_close(found, expected.to(found), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("steps", [20, 50])
def test_integrated_gradients(explainer, model, steps):
    found = ours(explainer, "integrated_gradients", n_steps=steps, tolerance=None)
    x, b = embedded(model, IDS), embedded(model, BASELINE)
    captum = IntegratedGradients(of_embeddings(model)).attribute(x, b, target=TARGET, n_steps=steps)
    close(found, captum.sum(-1))


def test_layer_integrated_gradients_of_ids(explainer, model):
    captum = LayerIntegratedGradients(lambda ids: model(input_ids=ids).logits, model.get_input_embeddings())
    found = captum.attribute(IDS, BASELINE, target=TARGET, n_steps=20)
    close(ours(explainer, "LayerIntegratedGradients", n_steps=20, tolerance=None), found.sum(-1))


def test_gradients(explainer, model):
    x = embedded(model, IDS)
    captum = Saliency(of_embeddings(model)).attribute(x.clone().requires_grad_(), target=TARGET, abs=False)
    close(ours(explainer, "saliency"), captum.norm(dim=-1))
    close(ours(explainer, "saliency", norm="max"), captum.abs().amax(-1))
    found = InputXGradient(of_embeddings(model)).attribute(x.clone().requires_grad_(), target=TARGET)
    close(ours(explainer, "input_x_gradient"), found.sum(-1))


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("stdev", [0.0, 0.3])
def test_gradient_shap_from_the_same_draws(explainer, model, monkeypatch, stdev, row):
    """One row at a time: each has its own baseline, of which Captum would draw for the others too."""
    n, chosen = 6, slice(row, row + 1)
    x, b = embedded(model, IDS[chosen]), embedded(model, BASELINE[chosen])
    shares = uniform(keys(), n)[row].numpy()
    noise = normal(keys(), n, *x.shape[1:])[row] * (SPECIAL[row] == 0)[None, :, None]
    monkeypatch.setattr(np.random, "uniform", lambda low, high, size: shares[:size])
    monkeypatch.setattr(torch, "normal", lambda mean, spread: noise * spread)
    captum = GradientShap(of_embeddings(model)).attribute(x, b, n_samples=n, stdevs=stdev, target=TARGET)
    close(ours(explainer, "gradient_shap", n_samples=n, stdev=stdev)[chosen], captum.sum(-1))


def test_smooth_grad_from_the_same_draws(explainer, model, monkeypatch):
    n, share = 5, 0.1
    x = embedded(model, IDS[:1])
    spread = share * float(x.max() - x.min())
    noise = normal(keys(), n, *x.shape[1:])[0]
    monkeypatch.setattr(torch, "normal", lambda mean, spread: noise * spread)
    tunnel = NoiseTunnel(Saliency(of_embeddings(model)))
    captum = tunnel.attribute(x.requires_grad_(), nt_samples=n, stdevs=spread, target=TARGET, abs=False)
    close(ours(explainer, "smooth_grad", n_samples=n, noise=share)[:1], captum.norm(dim=-1))


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (3, 1), (3, 2)])
def test_occlusion(explainer, model, window, stride):
    found = ours(explainer, "occlusion", window=window, stride=stride, operator="pad")
    captum = Occlusion(of_content(model))
    expected = captum.attribute(
        IDS[:1, CONTENT], sliding_window_shapes=(window,), strides=(stride,), baselines=PAD, target=TARGET
    )
    close(found[:1, CONTENT], expected)


@pytest.mark.parametrize("permutations", [1, 2, 5])
def test_shapley_sampling_from_the_same_draws(explainer, model, permutations):
    units = Units(torch.where(SPECIAL == 1, -1, torch.arange(8) - 1))
    drawn = orders(keys(), units, permutations)[0].argsort(-1).tolist()
    captum = ShapleyValueSampling(of_content(model))
    captum.permutation_generator = lambda features, samples: iter(drawn)
    expected = captum.attribute(IDS[:1, CONTENT], baselines=PAD, target=TARGET, n_samples=permutations)
    found = ours(explainer, "svs", n_samples=5 * permutations, operator="pad")
    close(found[:1, CONTENT], expected)
