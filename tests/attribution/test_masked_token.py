"""Masked language models: what made a word likely in place of a mask, for every family that has such a head."""

from __future__ import annotations

import pytest
import torch
import transformers
from tiny_models import CONFIGURATIONS

from attribution import Explainer, InputError, Target
from attribution.conformance import check_methods
from evaluation import perturbation_curves

FAMILIES = ("bert", "roberta", "xlm_roberta", "distilbert", "albert", "electra", "deberta", "modernbert")
MASK = 7
IDS = torch.tensor([[5, 17, 45, 8, MASK, 33, 5, 60, 21], [6, MASK, 8, 9, 10, 11, 0, 0, 0]])
ATTENDED = torch.tensor([[1] * 9, [1] * 6 + [0] * 3])
PLACES = torch.tensor([4, 1])


class Tokens:
    """As much of a tokenizer as an explainer asks for."""

    mask_token_id, unk_token_id, all_special_ids = MASK, 3, [MASK, 3]


def masked_model(family):
    prefix, settings = CONFIGURATIONS[family]
    torch.manual_seed(0)
    model = getattr(transformers, f"{prefix}ForMaskedLM")(getattr(transformers, f"{prefix}Config")(**settings))
    return model.eval().double()


@pytest.fixture(params=FAMILIES)
def explainer(request):
    return Explainer(masked_model(request.param), Tokens())


@pytest.fixture
def bert():
    return Explainer(masked_model("bert"), Tokens())


def ids_of(explainer):
    return IDS.masked_fill(ATTENDED == 0, explainer.adapter.pad_id or 0)


def logits_at_masks(explainer):
    logits = explainer.model(ids_of(explainer), attention_mask=ATTENDED).logits
    return logits[torch.arange(2), PLACES].detach()


def test_gradients_are_those_of_the_words_logit(explainer):
    ids = ids_of(explainer)
    goal = Target("masked_token", index=torch.tensor([9, 12]), contrast=torch.tensor([4, 2]))
    found = explainer.scores(ids, ATTENDED, method="input_x_gradient", target=goal)
    words = explainer.model.get_input_embeddings()
    embedded = {}
    words.register_forward_hook(lambda m, a, out: embedded.setdefault("e", out.requires_grad_()))
    logits = explainer.model(ids, attention_mask=ATTENDED).logits[torch.arange(2), PLACES]
    value = logits[[0, 1], [9, 12]] - logits[[0, 1], [4, 2]]
    (gradient,) = torch.autograd.grad(value.sum(), embedded["e"])
    expected = (embedded["e"] * gradient).sum(-1).detach() * ATTENDED
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_the_place_defaults_to_the_first_mask_and_the_word_to_the_likeliest(bert):
    best = logits_at_masks(bert).argmax(1)
    ids = ids_of(bert)
    default = bert.scores(ids, ATTENDED, method="attcat")
    for target in (best, Target("masked_token", index=best, position=PLACES), "predicted"):
        torch.testing.assert_close(bert.scores(ids, ATTENDED, method="attcat", target=target), default)


@pytest.mark.parametrize("method", ["value_zeroing", "gradcam", "attn_lrp", "lrp_ah_ln", "occlusion"])
def test_padding_may_stand_on_the_left(bert, method):
    goal = Target("masked_token", index=torch.tensor([9, 12]), contrast=torch.tensor([4, 2]))
    right = bert.scores(ids_of(bert), ATTENDED, method=method, target=goal)
    turned = ids_of(bert).clone(), ATTENDED.clone()
    for each in turned:
        each[1] = each[1].roll(3)
    left = bert.scores(*turned, method=method, target=goal)
    torch.testing.assert_close(left[1].roll(-3), right[1])
    torch.testing.assert_close(left[0], right[0])


@pytest.mark.parametrize("operator", ["unk", "delete"])
def test_leaving_words_out_is_a_loop_over_them_and_spares_the_mask(bert, operator):
    goal = Target("masked_token", index=torch.tensor([9, 12]), contrast=torch.tensor([4, 2]))
    found = bert.scores(ids_of(bert), ATTENDED, method="occlusion", operator=operator, target=goal)
    intact = logits_at_masks(bert)
    for row, place in enumerate(PLACES.tolist()):
        good, bad = int(goal.index[row]), int(goal.contrast[row])
        for column in range(int(ATTENDED[row].sum())):
            ids = IDS[row, : int(ATTENDED[row].sum())].tolist()
            ids[column : column + 1] = [Tokens.unk_token_id] if operator == "unk" else []
            logits = bert.model(torch.tensor([ids])).logits[0, place - (operator == "delete" and column < place)]
            fall = (intact[row, good] - intact[row, bad]) - (logits[good] - logits[bad])
            expected = 0.0 if column == place else float(fall.detach())
            assert float(found[row, column]) == pytest.approx(expected, abs=1e-9)


def test_curves_are_read_at_the_mask(bert):
    goal = Target("masked_token", index=torch.tensor([9, 12]))
    scores = bert.scores(ids_of(bert), ATTENDED, method="attcat", target=goal)
    curves = perturbation_curves(bert, ids_of(bert), ATTENDED, scores, target=goal, operator="unk")
    expected = logits_at_masks(bert)[[0, 1], [9, 12]]
    torch.testing.assert_close(curves.of_target(curves.intact_logits).flatten().double(), expected)


def test_a_text_without_a_mask_is_refused(bert):
    with pytest.raises(InputError, match="padding or outside"):
        bert.scores(torch.tensor([[5, 9, 8]]), method="attcat")
    with pytest.raises(InputError, match="masked token; choices: masked_token"):
        bert.scores(IDS[:1], method="attcat", target="next_token")


METHODS = ("value_zeroing", "attention_norm", "alti", "attention_rollout", "input_x_gradient", "full_lrp", "attn_lrp",
           "occlusion", "random")  # fmt: skip


def test_methods_keep_what_they_owe_their_users(bert):
    verdicts = check_methods({method: method for method in METHODS}, bert.model, Tokens())
    assert {method: verdict.problems for method, verdict in verdicts.items()} == dict.fromkeys(METHODS, ())
    assert all(verdict.conforms for verdict in verdicts.values())
    with pytest.raises(InputError, match="which knows the mask"):
        check_methods({"random": "random"}, bert.model)
