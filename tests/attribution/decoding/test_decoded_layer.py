"""Decoded layer saliency against plain autograd, brute force over the vocabulary, and what must hold whatever it is."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from captum.attr import LayerGradientXActivation
from tiny_models import tiny_model
from torch import nn

from attribution import Explainer, InputError, Target
from attribution.decoding import LanguageModelHead
from attribution.decoding.credit import Reading, vocabulary_scores
from attribution.decoding.head import head_of
from attribution.methods.layers import AGGREGATES, SALIENCIES

IDS = torch.tensor([[5, 17, 45, 8, 17, 33, 7], [6, 7, 8, 9, 10, 0, 0], [20, 30, 20, 50, 60, 20, 0]])
VISIBLE = (IDS != 0).long()
SPECIAL = torch.zeros_like(IDS).index_fill(1, torch.tensor([0]), 1)
V, D = 100, 32
SIGNED = ("gradcam_signed", "gradxact")


def random_head(vocabulary=V, width=D, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(vocabulary, width, generator=generator, dtype=torch.float64)
    bias = torch.randn(vocabulary, generator=generator, dtype=torch.float64)
    norm = nn.LayerNorm(width).double().requires_grad_(False)
    return LanguageModelHead((norm,), 0.3 * weight, bias, "random")


def explainer(head=None, dtype=torch.float64):
    return Explainer(tiny_model("bert", dtype), lm_head=head or random_head())


def scores(of=None, ids=IDS, mask=VISIBLE, target=1, **parameters):
    return (of or explainer()).scores(ids, mask, method="decoded_layer", target=target, **parameters)


def plain(layer, target=1, model=None, scale=1.0, shift=0.0):
    """Hidden states of a layer and the gradient there by autograd through the whole stock model, [B, N, D] each."""
    model = model or tiny_model("bert")
    states = model(input_ids=IDS, attention_mask=VISIBLE, output_hidden_states=True)
    hidden = states.hidden_states[layer]
    (gradient,) = torch.autograd.grad((scale * states.logits[:, target] + shift).sum(), hidden)
    return hidden.detach(), gradient


def by_hand(layer, g="gradcam", tau=10, aggregate="type", normalise="softmax", weight="value", special=None):
    """The method as the definition reads, token by token."""
    hidden, gradient = plain(layer)
    out = torch.zeros(IDS.shape, dtype=torch.float64)
    for b in range(len(IDS)):
        places = VISIBLE[b].nonzero()[:, 0].tolist()
        s, own = saliency_by_hand(hidden[b], gradient[b], places, g), IDS[b, places].tolist()
        decoded = {n: decoded_by_hand(hidden[b, n], own, tau, aggregate, normalise, weight) for n in places}
        for i in places:
            sources = [i] if aggregate == "diagonal" else places
            total = sum(float(s[n]) * decoded[n].get(int(IDS[b, i]), 0.0) for n in sources)
            out[b, i] = total / (own.count(int(IDS[b, i])) if aggregate == "split" else 1)
    return out if special is None else out.masked_fill(special.bool(), 0)


def saliency_by_hand(hidden, gradient, places, g):
    alpha = gradient[places].mean(0)
    product = (hidden * gradient).sum(1)
    return {
        "gradcam": (hidden @ alpha).relu(), "gradcam_signed": hidden @ alpha, "gradxact": product,
        "gradxact_relu": product.relu(), "gradnorm": gradient.square().sum(1).sqrt(),
    }[g]  # fmt: skip


def decoded_by_hand(state, own, tau, aggregate, normalise, weight):
    """Token -> by how much a position decodes to it."""
    z = random_head().logits(state).tolist()
    known = sorted(set(own)) if aggregate == "restricted" else range(V)
    ranked = sorted(known, key=lambda v: -z[v])[: tau or V]
    if weight == "rank":
        return dict.fromkeys(ranked, 1.0)
    divisor = {
        "softmax": sum(math.exp(z[v]) for v in known), "unit": math.sqrt(sum(z[v] ** 2 for v in known)), "logits": 1,
    }[normalise]  # fmt: skip
    return {v: (math.exp(z[v]) if normalise == "softmax" else z[v]) / divisor for v in ranked}


VARIANTS = [
    *({"saliency": name} for name in SALIENCIES),
    *({"aggregate": name} for name in AGGREGATES if name != "raw"),
    *({"tau": tau} for tau in (1, 3, 50, V, None)),
    *({"normalise": name, "tau": 3} for name in ("unit", "logits")),
    *({"normalise": name, "aggregate": "restricted", "tau": 2} for name in ("softmax", "unit", "logits")),
    {"weight": "rank"}, {"weight": "rank", "aggregate": "restricted", "tau": 2}, {"layer": 0}, {"layer": 3},
]  # fmt: skip


@pytest.mark.parametrize("given", VARIANTS, ids=str)
def test_every_variant_is_its_definition(given):
    named = {"g" if name == "saliency" else name: value for name, value in {"layer": 2, **given}.items()}
    torch.testing.assert_close(scores(**{"layer": 2, **given}), by_hand(**named), rtol=0, atol=1e-10)


def test_special_tokens_give_saliency_but_get_none():
    found = scores(layer=2, special_tokens_mask=SPECIAL)
    torch.testing.assert_close(found, by_hand(2, special=SPECIAL), rtol=0, atol=1e-10)
    assert (found != 0).any()
    assert not found[:, 0].any()


@pytest.mark.parametrize("g", ["gradcam_signed", "gradnorm"])
def test_mass_is_kept_where_no_token_is_cut_off(g):
    hidden, gradient = plain(2)
    saliency = SALIENCIES[g](hidden, gradient, VISIBLE.bool()) * VISIBLE
    total = vocabulary_scores(random_head(), hidden, saliency, VISIBLE.bool(), Reading(None))
    torch.testing.assert_close(total.sum(1), saliency.sum(1), rtol=0, atol=1e-12)
    few = vocabulary_scores(random_head(), hidden, saliency.abs(), VISIBLE.bool(), Reading(3))
    assert bool((few.sum(1) < saliency.abs().sum(1)).all())


def test_a_head_that_gives_every_position_its_own_token_leaves_saliency_as_it_is():
    unique = torch.tensor([[5, 17, 45, 8, 33]])
    model = tiny_model("bert")
    states = model(input_ids=unique, output_hidden_states=True).hidden_states[2][0].detach()
    rows = torch.zeros(V, D, dtype=torch.float64)
    rows[unique[0]] = 1e3 * torch.linalg.pinv(states).T  # position n's logits: 1000 at its own token, else 0
    one_hot = explainer(head=LanguageModelHead((), rows, None, "one-hot"))
    raw = scores(one_hot, unique, None, layer=2, aggregate="raw")
    for aggregate in ("type", "split", "diagonal", "restricted"):
        torch.testing.assert_close(scores(one_hot, unique, None, layer=2, aggregate=aggregate), raw, rtol=0, atol=1e-9)
    assert raw.any()


@pytest.mark.parametrize("g", SALIENCIES)
def test_scores_scale_with_what_is_explained_and_do_not_move_with_a_constant(g):
    model = tiny_model("bert")
    before = scores(Explainer(model, lm_head=random_head()), layer=2, saliency=g)
    with torch.no_grad():
        model.classifier.weight.mul_(3)
        model.classifier.bias.add_(7)
    torch.testing.assert_close(
        scores(Explainer(model, lm_head=random_head()), layer=2, saliency=g), 3 * before, rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("g", [name for name in SALIENCIES if name not in SIGNED])
def test_scores_are_not_negative_and_grow_with_tau(g):
    grown = [scores(layer=2, saliency=g, tau=tau) for tau in (1, 3, 5, 10, 50, None)]
    assert bool((grown[0] >= 0).all())
    for few, more in itertools.pairwise(grown):
        assert bool((more >= few - 1e-15).all())


class MeanPool(nn.Module):
    def forward(self, hidden):
        return hidden.mean(1)


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_permuted_tokens_have_permuted_scores_where_positions_say_nothing(aggregate):
    model, ids = tiny_model("bert"), IDS[:1]
    model.bert.embeddings.position_embeddings.weight.data.zero_()
    model.bert.pooler = MeanPool()
    of, order = Explainer(model, lm_head=random_head()), torch.tensor([3, 0, 6, 1, 5, 2, 4])
    given = {"layer": 2, "aggregate": aggregate, "saliency": "gradcam_signed", "tau": None}
    found = scores(of, ids[:, order], None, **given)
    torch.testing.assert_close(found, scores(of, ids, None, **given)[:, order], rtol=0, atol=1e-10)
    assert found.any()


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_padding_on_either_side_changes_nothing(aggregate):
    wide = nn.functional.pad(IDS, (3, 2))
    found = scores(ids=wide, mask=nn.functional.pad(VISIBLE, (3, 2)), layer=2, aggregate=aggregate)
    torch.testing.assert_close(found[:, 3:-2], scores(layer=2, aggregate=aggregate), rtol=0, atol=1e-10)
    assert not found[:, :3].any()


def test_at_the_last_layer_a_head_on_the_first_token_leaves_no_gradient_elsewhere():
    at = {g: scores(layer=3, saliency=g, aggregate="raw") for g in SALIENCIES}
    for g in ("gradxact", "gradnorm"):
        assert bool(at[g][:, 0].any())
        assert not at[g][:, 1:].any()
    assert bool((at["gradcam_signed"] != 0)[VISIBLE.bool()].all())  # features' weights are shared by all positions
    assert scores(layer=3, saliency="gradxact", special_tokens_mask=SPECIAL, tau=None).any()  # through the first's row


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_gradient_times_activation_is_captums(layer):
    model = tiny_model("bert")
    block = model.bert.encoder.layer[layer - 1]
    forward = lambda ids: model(input_ids=ids, attention_mask=VISIBLE).logits  # noqa: E731
    found = LayerGradientXActivation(forward, block).attribute(IDS, target=1)
    found = (found[0] if isinstance(found, tuple) else found).sum(2) * VISIBLE
    raw = scores(layer=layer, saliency="gradxact", aggregate="raw")
    torch.testing.assert_close(raw, found.to(raw.dtype).detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_the_gradient_of_the_graph_above_a_layer_is_that_of_the_whole(layer):
    _, gradient = plain(layer)
    raw = scores(layer=layer, saliency="gradnorm", aggregate="raw")
    torch.testing.assert_close(raw, gradient.norm(dim=2) * VISIBLE, rtol=0, atol=1e-6)


def test_nothing_below_the_layer_is_in_the_graph(monkeypatch):
    from attribution import capture

    found = []
    monkeypatch.setattr(
        capture, "_leaf", lambda state: found.append(state.requires_grad) or state.detach().requires_grad_()
    )
    scores(layer=2)
    assert found == [False]


def test_restricted_is_the_whole_where_the_vocabulary_is_the_text():
    ids = torch.tensor([[0, 1, 2, 3, 4, 5, 2]])
    small = explainer(head=random_head(vocabulary=6))
    for tau in (1, 3, None):
        some, whole = (scores(small, ids, None, layer=2, tau=tau, aggregate=name) for name in ("restricted", "type"))
        torch.testing.assert_close(some, whole, rtol=0, atol=1e-12)


def test_restricted_computes_logits_of_the_texts_own_tokens_alone():
    head = random_head()
    asked = []

    class Counting(LanguageModelHead):
        def logits(self, hidden):
            asked.append(hidden.shape)
            return super().logits(hidden)

    counting = Counting(head.steps, head.weight, head.bias, head.about)
    torch.testing.assert_close(
        scores(explainer(head=counting), layer=2, aggregate="restricted"), scores(layer=2, aggregate="restricted")
    )
    assert asked == []
    scores(explainer(head=counting), layer=2)
    assert asked == [(int(VISIBLE.sum()), D)]  # positions in sight alone


def test_layers_and_targets_have_maps_of_their_own():
    given = {"saliency": "gradcam_signed", "tau": None}
    maps = [scores(layer=layer, target=target, **given) for layer in (1, 2, 3) for target in (0, 1)]
    for i, one in enumerate(maps):
        assert all(not torch.allclose(one, other) for other in maps[i + 1 :])
    torch.testing.assert_close(scores(layer=2, target=[0, 1], **given), torch.stack(maps[2:4], 1))


def test_scores_depend_on_the_weights_above_and_below_the_layer():
    for changed in (0, 2):
        model = tiny_model("bert")
        with torch.no_grad():
            model.bert.encoder.layer[changed].output.dense.weight.normal_(generator=torch.Generator().manual_seed(1))
        assert not torch.allclose(scores(Explainer(model, lm_head=random_head()), layer=2), scores(layer=2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_do_not_depend_on_the_company_to_the_last_bit(dtype):
    of = explainer(LanguageModelHead((), random_head().weight.to(dtype), None, "random"), dtype)
    spec = {"method": "decoded_layer", "layer": 2}
    company = {"below": {**spec, "layer": 0}, "g": "attcat", "lrp": "full_lrp", "random": "random"}
    alone = of.scores_many(IDS, VISIBLE, methods={"m": spec}, target=1)["m"]
    for others in (company, {"below": company["below"]}, {"random": "random", "a": "raw_attention"}):
        together = of.scores_many(IDS, VISIBLE, methods={"m": spec, **others}, target=1)
        assert torch.equal(together["m"], alone)
        assert list(together) == ["m", *others]


def test_facts_are_what_they_say():
    found = (
        explainer()
        .scored_many(
            IDS, VISIBLE, methods={"m": {"method": "decoded_layer", "layer": 2}}, special_tokens_mask=SPECIAL, target=1
        )["m"]
        .facts
    )
    hidden, gradient = plain(2)
    s = SALIENCIES["gradcam"](hidden, gradient, VISIBLE.bool())
    for b in range(len(IDS)):
        places = [n for n in range(IDS.shape[1]) if VISIBLE[b, n] and not SPECIAL[b, n]]
        near = {n: set(random_head().logits(hidden[b, n]).topk(10).indices.tolist()) for n in places}
        text = {int(IDS[b, n]) for n in places}
        assert float(found["recovery"][b]) == pytest.approx(sum(bool(near[n] & text) for n in places) / len(places))
        own = sum(float(s[b, n]) for n in places if int(IDS[b, n]) in near[n])
        assert float(found["salient_recovery"][b]) == pytest.approx(own / float(s[b, places].sum()))


def test_without_a_head_there_is_a_way_to_one_in_the_error_and_raw_maps_need_none():
    bare = Explainer(tiny_model("bert"))
    with pytest.raises(InputError, match=r"^conf error: decoded_layer needs a language-model head, and model.lm_head"):
        scores(bare)
    assert scores(bare, aggregate="raw").any()


def test_decoders_read_with_their_own_head():
    model = tiny_model("gpt2_lm")
    own = scores(Explainer(model), target=7, layer=2)
    torch.testing.assert_close(own, scores(Explainer(model, lm_head=head_of(model, "x")), target=7, layer=2))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"layer": 4}, "layer=4 is not one of the model's layers 0 to 3"),
        ({"layer": "auto"}, "layer=auto: evaluation.layer_choice.choose_layer finds"),
        ({"tau": 0}, "tau=0 must be at least 1"),
        ({"saliency": "x"}, "saliency=x is unknown; choices: gradcam"),
    ],
)
def test_wrong_parameters_are_named(given, words):
    with pytest.raises(InputError, match=words):
        scores(**given)


def test_chunks_of_the_vocabulary_are_the_whole(monkeypatch):
    from attribution.decoding import credit

    whole = scores(layer=2)
    monkeypatch.setattr(credit, "MOST_LOGITS", 3 * V)
    torch.testing.assert_close(scores(layer=2), whole, rtol=0, atol=1e-12)


def test_contrast_of_two_classes_is_explained_too():
    first, second = (scores(layer=2, target=target, saliency="gradxact") for target in (0, 1))
    found = scores(layer=2, target=Target("class", index=1, contrast=0), saliency="gradxact")
    torch.testing.assert_close(found, second - first, rtol=0, atol=1e-10)
