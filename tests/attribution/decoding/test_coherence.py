"""Coherence of layers against a loop over positions, and the layers chosen by it."""

from __future__ import annotations

import pytest
import torch
import transformers
from tiny_models import tiny_head, tiny_model

from attribution import Explainer, InputError, Inputs
from attribution.decoding import head_of
from attribution.decoding.coherence import Coherence, layer_coherence, with_body_of
from attribution.decoding.head import LanguageModelHead
from evaluation import perturbation_curves
from evaluation.faithfulness import ERASER_LEVELS, mean_drop
from evaluation.layer_choice import choose_layer

IDS = torch.tensor([[5, 17, 45, 8, 17, 33, 7], [6, 7, 8, 9, 10, 0, 0], [20, 30, 20, 50, 60, 20, 0]])
SPECIAL = torch.zeros_like(IDS).index_fill(1, torch.tensor([0]), 1)
BATCH = Inputs.of(IDS, (IDS != 0).long(), special_tokens_mask=SPECIAL)
V = 100


@pytest.fixture(scope="module")
def explainer():
    model = tiny_model("bert")
    return Explainer(model, lm_head=tiny_head(model))


@pytest.fixture(scope="module")
def found(explainer):
    return layer_coherence(explainer, [BATCH])


def test_every_statistic_is_its_definition(explainer, found):
    head = explainer.adapter.lm_head
    with torch.no_grad():
        states = explainer.model(IDS, (IDS != 0).long(), output_hidden_states=True).hidden_states
        logits = [head.logits(hidden) for hidden in states]
    places = [(b, n) for b in range(3) for n in range(1, 7) if IDS[b, n]]
    words = [{int(i) for i in row[1:] if i} for row in IDS]
    for layer, z in enumerate(logits):
        order = {(b, n): z[b, n].argsort(descending=True).tolist() for b, n in places}
        rank = [order[b, n].index(int(IDS[b, n])) + 1 for b, n in places]
        near = [min(order[b, n].index(i) + 1 for i in words[b]) for b, n in places]
        mass = [float(z[b, n].softmax(0)[sorted(words[b])].sum()) for b, n in places]
        vector = torch.nn.functional.normalize(head.weight, dim=1)
        cosine = [float(vector[order[b, n][0]] @ vector[IDS[b, n]]) for b, n in places]
        wanted = {
            "recovery@3": mean(r <= 3 for r in rank), "in_text@3": mean(r <= 3 for r in near), "mass": mean(mass),
            "mrr": mean(1 / r for r in rank), "cosine": mean(cosine), "recovery@50": mean(r <= 50 for r in rank),
        }  # fmt: skip
        for name, value in wanted.items():
            assert float(found.values[name][layer]) == pytest.approx(value, abs=1e-6), name
    assert found.positions == len(places)
    assert len(found.rows()) == 4 * len(found.values)


def mean(values):
    values = [float(value) for value in values]
    return sum(values) / len(values)


def test_texts_may_come_in_batches_and_padded_on_either_side(explainer, found):
    single = [BATCH.rows(slice(b, b + 1)) for b in range(3)]
    left = {name: torch.nn.functional.pad(x, (3, 0)) for name, x in BATCH.present().items()}
    for batches in (single, [left]):
        again = layer_coherence(explainer, batches)
        for name, values in found.values.items():
            torch.testing.assert_close(again.values[name], values, rtol=0, atol=1e-9)


def test_a_random_head_recovers_no_more_than_chance():
    ids = torch.randint(5, V, (40, 12), generator=torch.Generator().manual_seed(0))
    model = tiny_model("bert")
    random = layer_coherence(Explainer(model, lm_head=tiny_head(model)), [Inputs.of(ids)], taus=(10,))
    spread = 3 * (0.1 * 0.9 / ids.numel()) ** 0.5
    assert (random.values["recovery@10"] - 10 / V).abs().max() < spread + 0.06  # positions of a text are alike


def test_a_language_model_recovers_what_is_in_sight_at_its_last_layer():
    model = tiny_model("bert")
    with torch.no_grad():  # blocks that pass words on, and a head that knows their embeddings
        model.bert.embeddings.position_embeddings.weight.zero_()
        for layer in model.bert.encoder.layer:
            layer.output.dense.weight.zero_()
            layer.attention.output.dense.weight.zero_()
        ids = torch.arange(V)[None]
        rows = model.bert(input_ids=ids[:, :60]).last_hidden_state[0]
    weight = torch.zeros(V, 32, dtype=torch.float64)
    weight[:60] = rows
    own = LanguageModelHead((), weight, -0.5 * weight.square().sum(1), "nearest state")
    coherence = layer_coherence(Explainer(model, lm_head=own), [Inputs.of(ids[:, 5:45])], taus=(1,))
    assert float(coherence.values["recovery@1"][3]) > 0.99


def test_the_body_before_fine_tuning_is_that_of_the_checkpoint(explainer, tmp_path):
    language_model = transformers.BertForMaskedLM(explainer.model.config).double()
    language_model.save_pretrained(tmp_path)
    before = with_body_of(explainer, tmp_path)
    given = dict(language_model.base_model.named_parameters())
    for name, weights in before.model.base_model.named_parameters():
        assert name not in given or torch.equal(weights, given[name])
    assert torch.equal(before.model.classifier.weight, explainer.model.classifier.weight)
    assert before.adapter.lm_head is explainer.adapter.lm_head
    assert not torch.equal(next(iter(given.values())), next(explainer.model.base_model.parameters()))


def test_decoders_are_read_with_their_own_head():
    model = tiny_model("gpt2_lm")
    own = layer_coherence(Explainer(model), [Inputs.of(IDS[:1])])
    given = layer_coherence(Explainer(model, lm_head=head_of(model, "x")), [Inputs.of(IDS[:1])])
    assert torch.equal(own.values["mrr"], given.values["mrr"])


def coherence_of(recovery, readable=(1, 1, 1, 1)):
    values = {"recovery@10": recovery, "in_text@10": readable}
    return Coherence({name: torch.tensor(each, dtype=torch.float64) for name, each in values.items()}, 1)


def test_coherent_layers(explainer):
    coherence = coherence_of([1.0, 0.95, 0.91, 0.4])
    assert choose_layer(explainer, [], coherence, mode="coherent") == 2
    assert choose_layer(explainer, [], coherence, mode="most_coherent") == 0


def test_the_faithful_layer_is_the_most_comprehensive_one_that_can_be_read(explainer):
    given = {"saliency": "gradcam_signed", "tau": None}
    drops = []
    for layer in range(4):
        maps = explainer.scores(**BATCH.present(), method="decoded_layer", layer=layer, **given)
        curves = perturbation_curves(
            explainer, IDS, BATCH.attention_mask, maps, levels=ERASER_LEVELS, special_tokens_mask=SPECIAL
        )
        drops.append(float(mean_drop(curves).mean()))
    order = sorted(range(4), key=lambda layer: -drops[layer])
    assert choose_layer(explainer, [BATCH], coherence_of([1, 1, 1, 1]), **given) == order[0]
    without_best = [float(layer != order[0]) for layer in range(4)]
    assert choose_layer(explainer, [BATCH], coherence_of([1, 1, 1, 1], without_best), **given) == order[1]


def test_what_cannot_be_chosen_is_said(explainer):
    with pytest.raises(InputError, match=r"in_text@10 is 0.20 at most, 0.5 is needed"):
        choose_layer(explainer, [BATCH], coherence_of([1, 1, 1, 1], [0.1, 0.2, 0.1, 0.1]))
    with pytest.raises(InputError, match="mode=best is unknown; choices: faithful"):
        choose_layer(explainer, [BATCH], coherence_of([1, 1, 1, 1]), mode="best")
