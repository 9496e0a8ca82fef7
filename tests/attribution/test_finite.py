"""Scores that are not finite: which example has them, and where that began."""

from __future__ import annotations

import pytest
import torch
from tiny_models import save_tiny, tiny_model
from torch import nn
from transformers import AutoTokenizer

from attribution import METHODS, Explainer, Inputs
from attribution.explainer import Request
from attribution.finite import OWN, problems
from attribution.methods import Method, Need

IDS = torch.tensor([[5, 17, 45, 8, 91], [6, 7, 8, 9, 10], [20, 30, 40, 50, 60]])


class InfiniteSlope(nn.Module):
    """The identity, but for its slope, which is not finite."""

    def forward(self, x):
        return x + 0 * (0 * x).sqrt()


def explain(model, method, ids=IDS, **spec):
    explainer, request = Explainer(model), Request.of({"method": method, **spec})
    scores = explainer.scores_many(ids, methods={"": {"method": method, **spec}}, target=1)[""]
    return scores, problems(explainer.adapter, Inputs.of(ids), scores, request, 1)


def poisoned_word(model, id=91):
    with torch.no_grad():
        model.get_input_embeddings().weight[id] = torch.nan
    return model


def test_finite_scores_are_no_problem():
    assert explain(tiny_model("bert"), "attcat")[1] == [None] * 3


@pytest.mark.parametrize("name", ["bert", "llama", "albert", "modernbert"])
@pytest.mark.parametrize("method", ["saliency", "attention_rollout", "occlusion"])
def test_an_example_alone_fails_and_the_others_are_as_they_were(name, method):
    clean, _ = explain(tiny_model(name), method)
    scores, found = explain(poisoned_word(tiny_model(name)), method)
    assert torch.equal(scores[1:], clean[1:])
    assert found[1:] == [None, None]
    assert found[0].startswith(f"{method}: scores are not finite: the forward from ")
    assert "embed" in found[0] or "tok" in found[0]


def test_the_first_module_that_overflows_is_named():
    model = tiny_model("bert", torch.float16)
    with torch.no_grad():
        model.bert.encoder.layer[1].intermediate.dense.weight.mul_(60000)
    _, found = explain(model, "saliency")
    place = "bert.encoder.layer.1.intermediate.dense"
    assert found == [f"saliency: scores are not finite: the forward from {place} on"] * 3


@pytest.mark.parametrize("method", ["saliency", "attcat"])
def test_the_block_whose_backward_is_not_finite_is_named(method):
    model = tiny_model("bert")
    model.bert.encoder.layer[1].intermediate.intermediate_act_fn = InfiniteSlope()
    _, found = explain(model, method)
    assert found == [f"{method}: scores are not finite: the backward of the gradient from layer 1 down"] * 3


def test_a_method_of_its_own_arithmetic_is_told_apart():
    method = Method("mine", lambda c: c.input_ids / (c.input_ids - 91), Need.NOTHING, "test", {})
    _, found = explain(tiny_model("bert"), method)
    assert found == [f"mine: scores are not finite: {OWN}", None, None]


def test_an_explanation_says_what_is_wrong_with_it(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(save_tiny("bert", tmp_path))
    model = poisoned_word(tiny_model("bert"), tokenizer.convert_tokens_to_ids("awful"))
    explainer = Explainer(model, tokenizer)
    texts = ["a good film .", "an awful film .", "the film was good and the meal was good but the hotel was awful ."]
    for options in ({}, {"max_length": 10, "long_texts": "windows", "stride": 2}):
        good, *bad = explainer.explain(texts, method="attcat", target=1, **options)
        assert good.problem is None
        assert all("embeddings" in each.problem for each in bad)


def test_every_registered_method_can_be_diagnosed():
    model = poisoned_word(tiny_model("bert", layers=2))
    adapter, scores = Explainer(model).adapter, torch.full((3, 5), torch.nan)
    for method in METHODS:
        assert all(problems(adapter, Inputs.of(IDS), scores, Request.of(method), 1))
