"""Many metrics of many methods from one run: what they share, in which units, and with which operators."""

from __future__ import annotations

import math

import pytest
import torch
from test_curves import random_texts, tiny
from transformers import BertConfig, BertForMaskedLM

from attribution import Explainer, InputError
from attribution.model.inputs import Inputs
from attribution.perturb import Perturbation
from evaluation import METRICS, evaluate_all, perturbation_curves, removal_effects
from evaluation.analytic import CLS, FIRST_WORD, BagOfTokens, text_batch
from evaluation.resampling import Resampler

CLASSES = [m.id for m in METRICS.values() if m.prepared and not m.tasks]
MASK = 4


def test_methods_and_metrics_share_what_they_run(bert):
    explainer = tiny(bert)
    ids, mask, _ = random_texts()
    methods = {"occlusion": {"method": "occlusion"}, "random": "random", "gradient": "input_x_gradient"}
    scores = explainer.scores_many(ids, mask, methods=methods)
    plain = evaluate_all(explainer, ids, mask, scores, CLASSES)
    with explainer.remembering() as memory:
        assert all(torch.equal(each, scores[label]) for label, each in
                   explainer.scores_many(ids, mask, methods=methods).items())  # fmt: skip
        own = memory.counts.distinct
        shared = evaluate_all(explainer, ids, mask, scores, CLASSES)
    for label, values in plain.values.items():
        for metric, found in values.items():
            assert torch.equal(found.nan_to_num(-9), shared.values[label][metric].nan_to_num(-9)), metric
    assert own == 3 + int(mask.sum()) - 2 * 3  # intact, and every word left out
    assert shared.passes.distinct == plain.passes.distinct - own
    assert explainer.memory is None
    assert plain.passes.distinct < 0.2 * plain.passes.requested
    assert plain.passes.saved.endswith("forwards run")


def test_asked_alone_metrics_have_the_same_values_and_ask_for_what_they_say(bert):
    explainer = tiny(bert)
    ids, mask, scores = random_texts(lengths=(6, 11))
    given = {"a": scores, "b": scores.flip(1)}
    asked = ["aopc", "sufficiency", "delta_auc", "decision_flip_top_1", "tau_loo", "sensitivity_n"]
    together = evaluate_all(explainer, ids, mask, given, asked, operator="delete")
    requested = 0
    for label, each in given.items():
        for metric in asked:
            alone = evaluate_all(explainer, ids, mask, {label: each}, [metric], operator="delete")
            requested += alone.passes.requested
            assert torch.equal(
                alone.values[label][metric].nan_to_num(-9), together.values[label][metric].nan_to_num(-9)
            )
    assert together.passes.requested == requested


def test_what_is_missing_is_named(bert):
    ids, mask, scores = random_texts()
    with pytest.raises(InputError, match=r"metric=token_f1 needs rationale, rationale_length; hand it over"):
        evaluate_all(tiny(bert), ids, mask, {"a": scores}, ["token_f1"])
    with pytest.raises(InputError, match="answer_f1_drop is for question_answering, not for classification"):
        evaluate_all(tiny(bert), ids, mask, {"a": scores}, ["answer_f1_drop"])


def test_answers_of_a_model_for_questions(bert_qa):
    ids, mask, scores = random_texts()
    asked = [m.id for m in METRICS.values() if m.prepared and m.tasks != ("classification",)]
    run = evaluate_all(tiny(bert_qa), ids, mask, {"a": scores}, asked)
    assert all(len(values) == 3 for values in run.values["a"].values())
    left, left_mask, left_scores = random_texts(side="left")
    other = evaluate_all(tiny(bert_qa), left, left_mask, {"a": left_scores}, ["aopc"])
    assert other.undefined == {"a": {"aopc": 0}}


@pytest.mark.parametrize("side", ["left", "right"])
def test_answers_do_not_depend_on_the_side_of_padding(bert_qa, side):
    ids, mask, scores = random_texts(lengths=(9,))
    width = 14
    shift = width - 9 if side == "left" else 0
    wide = [torch.zeros(1, width, dtype=each.dtype) for each in (ids, mask, scores)]
    for whole, part in zip(wide, (ids, mask, scores), strict=True):
        whole[:, shift : shift + 9] = part
    plain = perturbation_curves(tiny(bert_qa), ids, mask, scores)
    moved = perturbation_curves(tiny(bert_qa), *wide)
    assert torch.equal(moved.predicted, plain.predicted + shift)
    assert torch.equal(moved.intact_predicted, plain.intact_predicted + shift)
    assert torch.equal(moved.intact_predicted, moved.target)


def words_of_two(explainer_weights):
    """Six tokens that make three words of two, worth 3, 7 and 11 hundredths."""
    inputs = text_batch([[FIRST_WORD + i for i in range(6)]])
    word_ids = torch.tensor([[-1, 0, 0, 1, 1, 2, 2, -1]])
    return inputs, word_ids, explainer_weights[inputs.input_ids]


@pytest.mark.parametrize("unit", ["word", "sentence"])
def test_whole_units_are_taken_away(unit):
    weights = torch.zeros(FIRST_WORD + 6, dtype=torch.float64)
    weights[CLS], weights[FIRST_WORD:] = 0.3, torch.arange(1, 7, dtype=torch.float64) / 100
    inputs, word_ids, scores = words_of_two(weights)
    model = BagOfTokens(weights)
    options = {"target": 1, "unit": unit, f"{unit}_ids": word_ids}
    curves = perturbation_curves(model, inputs.input_ids, inputs.attention_mask, scores, levels=[1, 2, 3], **options)
    assert curves.probabilities[0, :, 1].tolist() == pytest.approx([0.51 - 0.11, 0.51 - 0.18, 0.3])
    assert curves.levels[0].tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    effects = removal_effects(model, inputs.input_ids, inputs.attention_mask, **options)
    assert effects.drops()[0].tolist() == pytest.approx([0.03, 0.07, 0.11])
    run = evaluate_all(model, inputs.input_ids, inputs.attention_mask, {"a": scores}, ["tau_loo", "aopc"], **options)
    assert float(run.values["a"]["tau_loo"]) == 1
    largest = perturbation_curves(
        model, inputs.input_ids, inputs.attention_mask, -scores, levels=[1], aggregation="max", **options
    )
    assert largest.probabilities[0, 0, 1] == pytest.approx(0.51 - 0.03)


def test_units_that_nobody_told_are_asked_for():
    inputs, _, scores = words_of_two(torch.ones(FIRST_WORD + 6))
    with pytest.raises(InputError, match="unit=sentence needs sentence_ids"):
        perturbation_curves(BagOfTokens(torch.ones(16)), inputs.input_ids, None, scores, unit="sentence")


@pytest.mark.parametrize("operator", ["attention_mask_out", "zero_embedding", "mean_embedding"])
def test_operators_on_a_transformer(bert, operator):
    """Against the model itself, one text and one level at a time."""
    explainer = tiny(bert)
    ids, mask, scores = random_texts(lengths=(7,))
    curves = perturbation_curves(explainer, ids, mask, scores, levels=[3], operator=operator)
    places = sorted(range(1, 6), key=lambda i: (-float(scores[0, i]), i))[:3]
    hit = torch.zeros(1, 7, dtype=torch.bool)
    hit[0, places] = True
    words = bert.get_input_embeddings()
    stand_in = words.weight.mean(0) if operator == "mean_embedding" else torch.zeros(())
    embeddings = words(ids) if operator == "attention_mask_out" else torch.where(hit[..., None], stand_in, words(ids))
    attention = mask & ~hit if operator == "attention_mask_out" else mask
    with torch.no_grad():
        expected = bert(inputs_embeds=embeddings, attention_mask=attention.long()).logits
    torch.testing.assert_close(curves.logits[:, 0], expected, rtol=0, atol=1e-12)


@pytest.fixture
def language_model():
    torch.manual_seed(1)
    config = BertConfig(vocab_size=100, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=16, max_position_embeddings=64, initializer_range=0.5)  # fmt: skip
    return BertForMaskedLM(config).eval().double()


def test_tokens_are_drawn_as_the_language_model_says(language_model):
    """Frequencies of many draws at two masked places against its softmax without the token that was there."""
    ids, mask, _ = random_texts(lengths=(6,))
    touched = torch.tensor([[False, True, False, True, False, False]])
    resampler = Resampler(language_model, MASK, draws=4000)
    copies = resampler.copies(Inputs.of(ids, mask), Perturbation(torch.tensor([0]), touched, "mlm_resample"))
    assert copies.tokens.shape == (4000, 6)
    with torch.no_grad():
        logits = language_model(ids.masked_fill(touched, MASK), attention_mask=mask).logits[0]
    for place in (1, 3):
        chances = logits[place].index_fill(0, ids[0, place], -torch.inf).softmax(0)
        found = torch.bincount(copies.tokens[:, place], minlength=100) / 4000
        assert float(found[ids[0, place]]) == 0
        assert float((found - chances).abs().max()) < 5 * math.sqrt(0.25 / 4000)


@pytest.mark.parametrize("side", ["left", "right"])
def test_resampled_curves_average_over_draws(bert, language_model, side):
    explainer, draws = tiny(bert), 3
    ids, mask, scores = random_texts(side=side)
    resampler = Resampler(language_model, MASK, draws=draws)
    options = {"levels": [2], "operator": "mlm_resample", "target": 1, "resampler": resampler}
    curves = perturbation_curves(explainer, ids, mask, scores, **options)
    touched = perturbation_touched(ids, mask, scores)
    copies = resampler.copies(Inputs.of(ids, mask), Perturbation(torch.arange(3), touched, "mlm_resample"))
    assert not bool(((copies.tokens == ids[copies.rows]) & copies.touched).any())
    perturbed = torch.where(copies.touched, copies.tokens, ids[copies.rows])
    p = explainer.adapter.logits(Inputs.of(perturbed, mask[copies.rows])).softmax(-1).view(3, draws, -1).mean(1)
    torch.testing.assert_close(curves.probabilities[:, 0], p, rtol=0, atol=1e-12)
    alone = perturbation_curves(explainer, ids[1:2], mask[1:2], scores[1:2], **options)
    assert torch.equal(alone.logits, curves.logits[1:2])


def perturbation_touched(ids, mask, scores):
    """The two words of the highest scores, the earlier first."""
    touched = torch.zeros(ids.shape, dtype=torch.bool)
    for b in range(len(ids)):
        words = [i for i in range(ids.shape[1]) if mask[b, i] and ids[b, i] not in (2, 3)]
        touched[b, sorted(words, key=lambda i: (-float(scores[b, i]), i))[:2]] = True
    return touched


def test_resampling_needs_a_language_model_that_fits(bert, language_model):
    ids, mask, scores = random_texts()
    with pytest.raises(InputError, match="needs a masked language model"):
        perturbation_curves(tiny(bert), ids, mask, scores, operator="mlm_resample")
    other = BertForMaskedLM(BertConfig(vocab_size=90, hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
    with pytest.raises(InputError, match="another vocabulary"):
        perturbation_curves(
            Explainer(bert), ids, mask, scores, operator="mlm_resample", resampler=Resampler(other, MASK)
        )
