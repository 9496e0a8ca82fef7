"""What every method must satisfy on every model family: a new method or family is covered by registering it."""

from __future__ import annotations

import re

import methods_page
import pytest
import torch
from conformance_results import spec as quick
from conformance_results import verdicts
from tiny_models import TINY_MODELS, tiny_head, tiny_model

from attribution import METHODS, Explainer, InputError, Inputs, Target
from attribution.capture import UNMASKED_RELEVANCE
from attribution.conformance import check_method, check_methods
from attribution.methods import Method, Need
from attribution.methods.registry import register

MASK = torch.tensor([[1.0, 0, 0, 1], [0, 1, 1, 0], [0, 0, 1, 1]])
IDS = torch.tensor([[5, 17, 45, 8, 91, 33, 7], [6, 7, 8, 9, 10, 0, 0], [20, 30, 40, 50, 60, 70, 0]])
VISIBLE = (IDS != 0).long()
CAST = 1e-6  # stock Llama normalises in float32 even in a float64 model; a capture does not
CLASSIFIERS = [name for name in TINY_MODELS if not name.endswith(("_qa", "_lm", "_multi"))]


@pytest.mark.parametrize("name", TINY_MODELS)
def test_every_method_conforms_or_says_why_not(name):
    found = verdicts(name)
    assert {method: verdict.problems for method, verdict in found.items() if verdict.problems} == {}
    assert sum(verdict.conforms for verdict in found.values()) > len(found) / 2


def test_the_page_of_methods_is_current():
    assert methods_page.PAGE.read_text(encoding="utf-8") == methods_page.page(), "run: python tests/methods_page.py"


def test_what_headlight_methods_says_of_families_is_current():
    assert methods_page.FAMILIES.read_text(encoding="utf-8") == methods_page.families()
    assert "deberta-v2" in methods_page.families()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["bert", "modernbert", "llama"])
def test_every_method_conforms_in_half_precision_or_is_refused(name, dtype):
    model = tiny_model(name, dtype, layers=2)
    found = check_methods({method: quick(method) for method in METHODS}, model, lm_head=tiny_head(model))
    assert {method: verdict.problems for method, verdict in found.items() if verdict.problems} == {}
    refused = {method for method, verdict in found.items() if "is not offered in" in (verdict.refused or "")}
    assert {"mask_lrp", "full_lrp"} <= refused
    assert not refused & {"attention_rollout", "saliency", "attn_lrp", "occlusion"}


def spec(method):
    return {"method": method, "head_mask": MASK} if METHODS[method].needs_heads else method


@pytest.mark.parametrize("method", METHODS)
def test_sdpa_and_eager_models_get_the_same(method):
    scores = []
    for implementation in ("eager", "sdpa"):
        model = tiny_model("bert")
        model.set_attn_implementation(implementation)
        scores.append(
            Explainer(model, lm_head=tiny_head(model)).scores_many(IDS, VISIBLE, methods={"m": spec(method)}, target=1)[
                "m"
            ]
        )
    torch.testing.assert_close(*scores, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_single_precision_scores_do_not_depend_on_the_batch(name):
    """To 1e-5, or of the largest score where that is above 1; z+ relevance divides by small sums, so less closely."""
    model = tiny_model(name, torch.float32, layers=2)
    explainer = Explainer(model, lm_head=tiny_head(model))
    methods = {method: quick(method) for method in METHODS}
    together = explainer.scores_many(IDS, VISIBLE, methods=methods, target=1)
    worst = {}
    for row, n in enumerate(VISIBLE.sum(1).tolist()):
        alone = explainer.scores_many(IDS[row : row + 1, :n], methods=methods, target=1)
        for method, scores in together.items():
            assert not scores[row, n:].any()
            apart = float((scores[row, :n] - alone[method][0]).abs().max() / scores[row].abs().max().clamp(min=1))
            worst[method] = max(apart, worst.get(method, 0))
    relevance = Need.MASKED_RELEVANCE | UNMASKED_RELEVANCE
    allowed = {method: 1e-4 if METHODS[method].needs & relevance else 1e-5 for method in METHODS}
    assert {method: apart for method, apart in worst.items() if apart > allowed[method]} == {}


@pytest.mark.parametrize("method", METHODS)
def test_chunks_are_the_whole(method):
    model = tiny_model("bert")
    explainers = [Explainer(model, max_tokens=n, lm_head=tiny_head(model)) for n in (8192, 7)]
    whole, chunks = (each.scores_many(IDS, VISIBLE, methods={"m": spec(method)})["m"] for each in explainers)
    torch.testing.assert_close(chunks, whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_tensor_and_contrast_targets(name):
    explainer = Explainer(tiny_model(name))
    per_row = torch.tensor([1, 0, 1])
    mixed = explainer.scores(IDS, VISIBLE, method="attcat", target=per_row)
    single = explainer.scores(IDS, VISIBLE, method="attcat", target=[0, 1])
    torch.testing.assert_close(mixed, single[torch.arange(3), per_row], rtol=0, atol=1e-12)
    contrast = explainer.scores(IDS, VISIBLE, method="attcat", target=Target("class", index=1, contrast=0))
    torch.testing.assert_close(contrast, single[:, 1] - single[:, 0], rtol=0, atol=CAST)
    logits = explainer.adapter.logits(Inputs.of(IDS, VISIBLE))
    assert torch.equal(
        explainer.scores(IDS, VISIBLE, method="attcat", target="runner_up"),
        explainer.scores(IDS, VISIBLE, method="attcat", target=logits.argmin(1).clone()),
    )


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_probability_gradients_are_those_of_the_softmax(name):
    explainer = Explainer(tiny_model(name))
    p = explainer.adapter.logits(Inputs.of(IDS, VISIBLE)).softmax(1).clone()
    logit = explainer.scores(IDS, VISIBLE, method="attcat", target=[0, 1])
    probability = explainer.scores(IDS, VISIBLE, method="attcat", target=1, output="probability")
    expected = (p[:, 1] * p[:, 0])[:, None] * (logit[:, 1] - logit[:, 0])
    torch.testing.assert_close(probability, expected, rtol=0, atol=CAST)


# --- the kit itself: methods that are wrong in one way each ----------------------------------------------------------


def ids(capture):
    """Scores that are right in every way but that they are those of the tokens alone, and of the class."""
    return capture.input_ids.double() * (1 + capture.part.index[:, None])


def with_hook(capture):
    capture.trace.adapter.model.get_input_embeddings().register_forward_hook(lambda *_: None)
    return ids(capture)


def trained(capture):
    with torch.no_grad():
        next(capture.trace.adapter.model.parameters()).mul_(1)
    return ids(capture)


def by_special_tokens(capture):
    special = capture.trace.adapter.special_tokens(capture.trace.inputs)
    return ids(capture) * (1 + special)


def of_two_rows_only(capture):
    if len(capture.input_ids) > 2:
        raise ValueError("too many rows")
    return ids(capture)


WRONG = {
    "nan": (lambda c: ids(c) * torch.nan, "not finite"),
    "column": (lambda c: ids(c)[:, :1], r"raises ValueError:  returned scores \[1, 1\] for rows \[1, 9\]"),
    "by column": (lambda c: ids(c) / ids(c).sum(), "alone other scores than in a batch"),
    "noise": (lambda c: ids(c) + torch.rand(1), "other scores the second time"),
    "negative": (lambda c: -ids(c), "negative scores"),
    "blind": (lambda c: c.input_ids.double(), "gives every class the same"),
    "chaotic": (
        lambda c: (c.embeddings.sum(-1) * 1e9 * (1 + c.part.index[:, None])).sin() + 1,
        "moves by .* in float32",
    ),
    "hook": (with_hook, r"changes the hooks of bert\.embeddings\.word_embeddings"),
    "trained": (trained, r"changes the values of bert\.embeddings"),
    "special": (by_special_tokens, "special tokens"),
    "rows": (of_two_rows_only, r"raises ValueError: too many rows \(with target=0\)"),
}


def test_a_method_that_conforms_has_no_problems():
    method = Method("right", ids, Need.NOTHING, "test", {})
    assert check_method(method, tiny_model("bert", layers=2)) == []


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(name):
    readout, words = WRONG[name]
    problems = check_method(Method(name, readout, Need.NOTHING, "test", {}), tiny_model("bert", layers=2))
    assert any(re.search(words, sentence) for sentence in problems), problems


def test_a_refusal_is_no_problem():
    def refuses(capture):
        raise InputError("this model is not for me")

    assert check_method(Method("picky", refuses, Need.NOTHING, "test", {}), tiny_model("bert", layers=2)) == []


def test_registered_methods_are_found_by_their_id():
    register("temporary", needs=Need.NOTHING, source="test")(ids)
    try:
        assert check_method("temporary", tiny_model("bert", layers=2)) == []
    finally:
        del METHODS["temporary"]
