"""Methods that ask the model again get what the model says, and what several ask for is run once."""

from __future__ import annotations

import pytest
import torch
from tiny_models import tiny_model
from torch import Tensor

from attribution.asking import Gradients, Scored, Surroundings, conduct
from attribution.capture import Capture, Need, trace
from attribution.explainer import Explainer
from attribution.methods.registry import METHODS, register
from attribution.model.inputs import Inputs
from attribution.perturb import Perturbation
from attribution.relevance.node import AbsoluteWeights
from attribution.targets import Target, parts

IDS = torch.tensor([[2, 5, 6, 7, 8, 3], [2, 9, 10, 3, 0, 0]])
MASK = (IDS != 0).long()


def asked_about(explainer: Explainer, target, output="logit"):
    adapter, inputs = explainer.adapter, Inputs.of(IDS, MASK)
    run = trace(adapter, inputs, Need.NOTHING, AbsoluteWeights())
    found = parts(target, run.logits.detach(), run.visible, adapter.read_out(inputs), output)
    return Surroundings(adapter, inputs, 8192), [Capture(run, part, Need.NOTHING) for part in found]


def one_masked(capture: Capture):
    """A copy of each row without its second token."""
    touched = torch.zeros_like(capture.visible)
    touched[:, 1] = True
    return (yield Perturbation(torch.arange(len(touched)), touched, "pad"))


def expected(explainer: Explainer, part, ids: Tensor) -> Tensor:
    logits = explainer.adapter.logits(Inputs.of(ids, MASK)).clone()
    return part.value(logits, MASK.bool(), part.chosen)


@pytest.mark.parametrize("output", ["logit", "probability"])
@pytest.mark.parametrize(("model", "target"), [("bert", Target("class", 1, contrast=0)), ("bert_qa", "span")])
def test_values_of_copies_are_those_of_the_model(model, target, output):
    explainer = Explainer(tiny_model(model))
    around, captures = asked_about(explainer, target, output)
    found, counts = conduct(around, [(capture.part, one_masked(capture)) for capture in captures])
    changed = IDS.clone()
    changed[:, 1] = explainer.adapter.pad_id
    for capture, values in zip(captures, found, strict=True):
        torch.testing.assert_close(values, expected(explainer, capture.part, changed), rtol=0, atol=1e-12)
        torch.testing.assert_close(capture.value, expected(explainer, capture.part, IDS), rtol=0, atol=1e-12)
    assert (counts.requested, counts.distinct) == (2 * len(captures), 2)


def at_half(capture: Capture):
    """Value and gradient at half of the embeddings, one row after the other in one ask."""
    return (yield Gradients(torch.tensor([0, 1]), capture.embeddings / 2))


@pytest.mark.parametrize("max_tokens", [6, 8192])
def test_gradients_are_those_of_finite_differences(max_tokens):
    explainer = Explainer(tiny_model("bert"))
    around, (capture,) = asked_about(explainer, 1)
    ((values, gradient),), _ = conduct(
        Surroundings(around.adapter, around.inputs, max_tokens), [(capture.part, at_half(capture))]
    )
    torch.manual_seed(0)
    direction = torch.randn_like(capture.embeddings)

    def shifted(step):
        def ask(capture):
            return (yield Gradients(torch.tensor([0, 1]), capture.embeddings / 2 + step * direction))

        (((moved, _),), _) = conduct(around, [(capture.part, ask(capture))])
        return moved

    slope = (shifted(1e-5) - shifted(-1e-5)) / 2e-5
    torch.testing.assert_close((gradient * direction).sum((1, 2)), slope, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(values, shifted(0.0), rtol=0, atol=1e-12)


def test_methods_ask_in_rounds_and_keep_their_facts(monkeypatch):
    @register("twice", needs=Need.NOTHING, source="test")
    def twice(capture: Capture):
        first = yield from one_masked(capture)
        second = yield from one_masked(capture)
        return Scored(torch.ones_like(IDS) * first[:, None], {"change": second - first, "value": capture.value})

    monkeypatch.setitem(METHODS, "twice", METHODS.pop("twice"))
    explainer = Explainer(tiny_model("bert"))
    methods = {"a": "twice", "b": "twice", "c": "attcat"}
    scored = explainer.scored_many(IDS, MASK, methods=methods, target=[0, 1])
    assert scored["a"].scores.shape == (2, 2, 6)
    assert torch.equal(scored["a"].scores, scored["b"].scores)
    assert torch.equal(scored["a"].facts["change"], torch.zeros(2, 2))
    logits = explainer.adapter.logits(Inputs.of(IDS, MASK)).clone()
    torch.testing.assert_close(scored["a"].facts["value"], logits, rtol=0, atol=1e-12)
    assert not scored["a"].scores[1, :, 4:].any()
    assert torch.equal(scored["c"].scores, explainer.scores(IDS, MASK, method="attcat", target=[0, 1]))
