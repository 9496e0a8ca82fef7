"""The registry says what methods ask for, at most; what they did ask for is a fact of each example."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_models import tiny_model

from attribution import METHODS, Explainer
from attribution.methods.registry import ALIASES, method_of

IDS = torch.arange(20, 32)[None]
ASKING = [name for name, method in METHODS.items() if method.asks]
SETTINGS = {
    "integrated_gradients": ({"n_steps": 3, "tolerance": 1e-30, "max_steps": 12}, {"n_steps": 5, "tolerance": None}),
    "occlusion": ({"window": 3, "stride": 2}, {"window": 20}),
    "shapley_sampling": ({"n_samples": 5}, {"n_samples": 47}),
    "lime": ({"n_samples": 9},),
    "kernel_shap": ({"n_samples": 9},),
    "smooth_grad": ({"n_samples": 3},),
    "gradient_shap": ({"n_samples": 3},),
}


def bound(formula, n, parameters):
    return eval(formula, {"__builtins__": {}}, {"N": n, "max": max, "min": min, "ceil": math.ceil, **parameters})


@pytest.fixture(scope="module")
def explainer():
    return Explainer(tiny_model("bert_qa"))


@pytest.mark.parametrize(("name", "given"), [(name, given) for name, all_ in SETTINGS.items() for given in all_])
def test_no_more_is_asked_for_than_the_registry_says(explainer, name, given, monkeypatch):
    seen: list[torch.Tensor] = []
    forward = explainer.adapter.forward
    monkeypatch.setattr(
        explainer.adapter, "forward", lambda inputs, *rest: (seen.append(inputs.input_ids), forward(inputs, *rest))[1]
    )
    found = explainer.scored_many(IDS, methods={"m": {"method": name, **given}}, target="start")["m"]
    parameters = {**METHODS[name].parameters, **given}
    for fact, formula in zip(("forwards", "backwards"), METHODS[name].cost, strict=True):
        spent = int(found.facts[fact][0]) if fact in found.facts else 0
        assert spent <= bound(formula, IDS.shape[1], parameters)
        assert bound(formula, IDS.shape[1], parameters) == 0 or spent >= 1
    if METHODS[name].cost[1] == "0":  # each copy is a row of ids of its own, passes are filled up with equal rows
        assert len(torch.cat(seen[1:]).unique(dim=0)) == int(found.facts["forwards"][0])


def test_every_asking_method_is_covered():
    modules = ("attribution.methods.paths", "attribution.methods.perturbation")
    assert set(SETTINGS) == {name for name in ASKING if METHODS[name].readout.__module__ in modules}


@pytest.mark.parametrize("alias", ["lgxa", "lig", "lime", "occ", "svs", "lds", "lgs"])
def test_thermostats_names_are_taken(explainer, alias):
    assert method_of(alias) is METHODS[ALIASES.get(alias, alias)]


def test_aliases_are_no_ids_and_lead_to_one_method():
    assert not set(ALIASES) & set(METHODS)
    assert all(alias in METHODS[id].aliases for alias, id in ALIASES.items())
    assert sum(len(method.aliases) for method in METHODS.values()) == len(ALIASES)


def test_an_alias_gives_the_scores_of_its_method(explainer):
    one = explainer.scores(IDS, method="InputXGradient", target="start")
    assert torch.equal(one, explainer.scores(IDS, method="input_x_gradient", target="start"))
