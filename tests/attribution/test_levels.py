"""Explaining texts at token, word and sentence level, with every kind of tokenizer."""

from __future__ import annotations

import pytest
import torch
from tiny_models import tiny_model
from tiny_tokenizers import TOKENIZERS, with_special_tokens

from attribution import Explainer, InputError, Target

TEXTS = ["An unhappy cat, isn't it? It is.", "A cat."]


def explainer_with(kind, model="gpt2_lm"):
    tokenizer = with_special_tokens(kind)
    loaded = tiny_model(model, torch.float64)
    loaded.resize_token_embeddings(len(tokenizer))
    return Explainer(loaded, tokenizer)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_levels_are_sums_of_each_other(kind):
    explainer = explainer_with(kind)
    levels = {level: explainer.explain(TEXTS, method="attcat", level=level) for level in ("token", "word", "sentence")}
    for row, text in enumerate(TEXTS):
        token, word, sentence = (levels[level][row] for level in ("token", "word", "sentence"))
        assert token.tokens[0] == "<s>"
        inside = sum(score for score, id in zip(token.scores, token.word_ids, strict=True) if id >= 0)
        assert sum(word.scores) == pytest.approx(inside, abs=1e-9)
        assert sum(sentence.scores) == pytest.approx(inside, abs=1e-9)
        assert "".join(word.tokens) == "".join(text.split())
        assert sentence.tokens == (["An unhappy cat, isn't it?", "It is."] if row == 0 else ["A cat."])
        assert [text[a:b] for a, b in sentence.offsets] == sentence.tokens


@pytest.mark.parametrize(
    ("how", "reduce"),
    [
        ("sum", sum),
        ("mean", lambda xs: sum(xs) / len(xs)),
        ("max", max),
        ("signed_max", lambda xs: max(xs, key=abs)),
    ],
)
def test_words_are_made_by_the_aggregation_asked_for(how, reduce):
    explainer = explainer_with("WordPiece")
    (token,) = explainer.explain(TEXTS[:1], method="attcat")
    (word,) = explainer.explain(TEXTS[:1], method="attcat", level="word", aggregation=how)
    for number, score in enumerate(word.scores):
        own = [s for s, id in zip(token.scores, token.word_ids, strict=True) if id == number]
        assert score == pytest.approx(reduce(own), abs=1e-12)


def test_second_texts_have_sentences_of_their_own():
    explainer = explainer_with("WordPiece", "bert")
    (found,) = explainer.explain([("A cat. It is", "a happy dog. And")], method="attcat", level="sentence")
    assert found.tokens == ["A cat.", "It is", "a happy dog.", "And"]


def test_the_next_token_is_named_with_its_probability():
    explainer = explainer_with("byte-level BPE")
    (found,) = explainer.explain(TEXTS[1:], method="attcat", target=Target("next_token", index=7))
    logits = explainer.model(**explainer.tokenizer(TEXTS[1], return_tensors="pt")).logits[0, -1]
    p = logits.detach().softmax(-1)
    assert (found.target, found.prediction) == (7, int(logits.argmax()))
    assert found.probabilities == pytest.approx([float(p.max()), float(p[7])], abs=1e-6)


def test_the_prediction_is_that_of_the_explained_position():
    explainer = explainer_with("byte-level BPE")
    ids = explainer.tokenizer(TEXTS[1], return_tensors="pt")["input_ids"]
    goal = Target("next_token", index=7, position=2)
    (found,) = explainer.explain(TEXTS[1:], method="attcat", target=goal)
    assert found.prediction == int(explainer.model(ids).logits[0, 2].argmax())
    assert found.scores == pytest.approx(explainer.scores(ids, method="attcat", target=goal)[0].tolist(), abs=1e-9)


def test_independent_labels_have_probabilities_of_their_own():
    explainer = explainer_with("WordPiece", "bert_multi")
    (found,) = explainer.explain(TEXTS[1:], method="attcat", target=2)
    logits = explainer.model(**explainer.tokenizer(TEXTS[1], return_tensors="pt")).logits[0]
    assert found.probabilities == pytest.approx(logits.sigmoid().tolist(), abs=1e-6)


@pytest.mark.parametrize(("option", "value"), [("level", "page"), ("aggregation", "median")])
def test_unknown_levels_and_aggregations_are_named(option, value):
    with pytest.raises(InputError, match=f"{option}={value} is unknown; choices: "):
        explainer_with("WordPiece").explain(TEXTS, method="attcat", **{option: value})
