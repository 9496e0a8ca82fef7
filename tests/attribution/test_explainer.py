"""What people hold: explaining texts, from a folder, at token and word level."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_models import save_tiny

from attribution import Explainer, InputError, list_methods


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny("bert", tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def explainer(folder):
    return Explainer.from_pretrained(folder)


def test_tokens_scores_and_offsets_belong_together(explainer):
    text = "The film was not goodish."
    (found,) = explainer.explain([text], method="gradcam", target=1)
    assert found.tokens == ["[CLS]", "the", "film", "was", "not", "good", "##i", "##s", "##h", ".", "[SEP]"]
    assert [text[a:b].lower() for a, b in found.offsets[1:6]] == found.tokens[1:6]
    assert found.word_ids == [-1, 0, 1, 2, 3, 4, 4, 4, 4, 5, -1]
    assert (found.target, found.prediction) == (1, found.probabilities.index(max(found.probabilities)))
    batch = explainer.tokenizer([text], return_tensors="pt")
    expected = explainer.scores(batch["input_ids"], method="gradcam", target=1)[0]
    assert found.scores == pytest.approx(expected.tolist())


def test_words_are_the_sums_of_their_tokens(explainer):
    tokens, words = (
        explainer.explain(["a goodish film"], method="attcat", level=level)[0] for level in ("token", "word")
    )
    assert words.tokens == ["a", "goodish", "film"]
    assert words.scores[1] == pytest.approx(
        sum(s for s, w in zip(tokens.scores, tokens.word_ids, strict=True) if w == 1)
    )


def test_pairs_keep_their_fields_apart(explainer):
    (found,) = explainer.explain([("the film", "the meal")], method="gradcam", level="word")
    assert found.tokens == ["the", "film", "the", "meal"]
    assert (found.text, found.text_b) == ("the film", "the meal")


def test_a_batch_is_its_texts_one_by_one(explainer):
    texts = ["fine .", "never was a meal so slow and so bad .", "the phone is great"]
    together = explainer.explain(texts, method="mask_lrp")
    for text, found in zip(texts, together, strict=True):
        (alone,) = explainer.explain([text], method="mask_lrp")
        assert found.tokens == alone.tokens
        assert found.scores == pytest.approx(alone.scores, abs=1e-6)


def test_long_texts_are_cut_to_what_the_model_takes(explainer):
    (found,) = explainer.explain(["good " * 500], method="gradcam")
    assert len(found.tokens) == 64


def test_html_escapes_the_text_and_dicts_are_json(explainer):
    (found,) = explainer.explain(["<img src=x onerror=alert(1)> good"], method="gradcam", level="word")
    assert "<img" not in found.to_html()
    assert json.loads(json.dumps(found.to_dict()))["method"] == "gradcam"


def test_pickled_weights_are_not_loaded(folder, tmp_path):
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="safetensors"):
        Explainer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"method": "mask_lpr"}, "Did you mean mask_lrp"),
        ({"method": "gradcam", "steps": 3}, "gradcam has no parameter steps"),
        ({"method": "gradcam", "target": 7}, "2 classes"),
        ({"method": "gradcam", "target": "start"}, "does not fit classification"),
        ({"method": "gradcam", "target": "gold"}, "needs the classes"),
        ({"method": "gradcam", "output": "odds"}, "choices: logit, probability"),
        ({"method": "mask_lrp", "variant": "reference"}, "needs a head_mask"),
        ({"method": "mask_lrp", "variant": "other"}, "choices: corrected, reference"),
        ({"method": "mask_lrp", "head_mask": torch.full((3, 4), torch.nan)}, "not finite"),
    ],
)
def test_wrong_arguments_are_named(explainer, arguments, words):
    with pytest.raises(InputError, match=words):
        explainer.scores(torch.tensor([[2, 7, 9, 3]]), **arguments)


def test_wrong_shapes_are_named(explainer):
    with pytest.raises(InputError, match=r"a batch \[B, N\]"):
        explainer.scores(torch.tensor([2, 3]), method="gradcam")
    with pytest.raises(InputError, match="attention_mask has shape"):
        explainer.scores(torch.tensor([[2, 3]]), torch.ones(1, 3), method="gradcam")
    with pytest.raises(InputError, match="hides every token"):
        explainer.scores(torch.tensor([[2, 3]]), torch.zeros(1, 2), method="gradcam")


def test_random_scores_depend_on_tokens_and_seed_alone(explainer):
    ids = torch.tensor([[2, 7, 9, 3], [2, 9, 7, 3]])
    first, second = explainer.scores(ids, method="random")
    assert not torch.equal(first, second)
    assert torch.equal(explainer.scores(ids[1:], method="random")[0], second)
    assert not torch.equal(explainer.scores(ids, method="random", seed=1)[0], first)
    many = explainer.scores(torch.randint(5, 60, (64, 60), generator=torch.Generator().manual_seed(0)), method="random")
    assert many.mean().item() == pytest.approx(0.5, abs=0.02)
    assert many.var().item() == pytest.approx(1 / 12, abs=0.01)


def test_position_falls_and_rare_tokens_are_high(explainer):
    ids, mask = torch.tensor([[2, 7, 9, 3], [2, 50, 3, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    assert explainer.scores(ids, mask, method="position")[0].tolist() == [1, 0.75, 0.5, 0.25]
    frequency = explainer.scores(ids, mask, method="token_frequency")
    assert frequency[0].argsort().tolist() == [0, 3, 1, 2]
    assert frequency[1, 3] == 0


def test_embedding_norm_is_the_length_of_the_word_embedding(explainer):
    ids = torch.tensor([[2, 7, 9, 7, 3]])
    weights = explainer.model.get_input_embeddings().weight.detach().double()
    found = explainer.scores(ids, method="embedding_norm")[0]
    assert found.tolist() == pytest.approx([float((weights[i] ** 2).sum() ** 0.5) for i in ids[0].tolist()])


def test_punctuation_is_what_the_tokenizer_writes_so(explainer):
    (found,) = explainer.explain(["the film , never dull !"], method="punctuation", target=1)
    assert found.tokens == ["[CLS]", "the", "film", ",", "never", "dull", "!", "[SEP]"]
    assert [float(score) for score in found.scores] == [0, 0, 0, 1, 0, 0, 1, 0]
    assert not Explainer(explainer.model).scores(torch.tensor([[2, 7, 9, 3]]), method="punctuation").any()


def test_explain_takes_words_and_sentences_as_units(explainer):
    text = "the goodish film . it was dull . never !"
    for unit, expected in (("word", 10), ("sentence", 3)):
        (found,) = explainer.explain([text], method="svs", unit=unit, n_samples=1100, target=1)
        assert found.method == "shapley_sampling"
        assert len({round(score, 9) for score in found.scores} - {0.0}) == expected
    (pair,) = explainer.explain([("the film .", "the meal . bad")], method="occ", unit="sentence", target=1)
    assert len({round(score, 9) for score in pair.scores} - {0.0}) == 3


def test_every_method_says_what_it_is():
    for method in list_methods():
        assert method.summary.endswith((".", ":"))
        assert method.source
