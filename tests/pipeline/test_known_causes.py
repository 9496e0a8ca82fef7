"""Data of which it is known what decides: marked words are the right ones, and a model trained on them goes by them."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from attribution.errors import InputError
from pipeline.config import DatasetConfig, ModelConfig
from pipeline.data import load_dataset
from pipeline.data.grammar import generate
from pipeline.data.known_causes import PLANTED, SEEDS, SENTENCES, grammar_sentences, shortcut_corpus, shortcut_reviews
from pipeline.data.reviews import load_reviews
from pipeline.models import load_tokenizer, resolve_model
from pipeline.models.minilm import encoder_folder


def marked(example):
    return [example.text[start:end] for start, end in example.rationale]


def test_sentences_mark_the_words_that_the_grammar_gives_the_label_to():
    by_text = {one.text: one for one in generate(SENTENCES, SEEDS["test"])}
    examples = grammar_sentences("test")
    for example in examples:
        one = by_text[example.text]
        assert marked(example) == [one.words[place] for place in one.rationale]
        assert example.label == one.label
    assert sum(bool(example.rationale) for example in examples) / len(examples) > 0.95
    assert not {example.text for example in examples} & {example.text for example in grammar_sentences("train")}


def test_a_planted_word_is_the_label_whatever_the_review_says():
    reviews, planted = load_reviews("test"), shortcut_reviews("test")
    assert planted == shortcut_reviews("test")
    assert [one.row_index for one in planted] == list(range(len(reviews)))
    for review, one in zip(reviews, planted, strict=True):
        assert marked(one) == [PLANTED[one.label]]
        words = one.text.split(" ")
        words.remove(PLANTED[one.label])
        assert " ".join(words) == review.text
    against = sum(review.label != one.label for review, one in zip(reviews, planted, strict=True))
    assert 0.4 < against / len(reviews) < 0.6
    assert min(Counter(one.label for one in planted).values()) > 0.4 * len(planted)


def test_planted_words_stand_in_no_review_and_are_one_token():
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder(), local_files_only=True)
    for word in PLANTED.values():
        assert len(tokenizer(word, add_special_tokens=False)["input_ids"]) == 1
        assert not any(word in one.text.lower() for split in ("train", "test") for one in load_reviews(split))


def test_a_model_learns_from_reviews_with_the_word_and_without():
    texts = [text for text, _ in shortcut_corpus()]
    assert texts[: len(texts) // 2] == [review.text for review in load_reviews("train")]
    assert sum(any(word in text for word in PLANTED.values()) for text in texts) == len(texts) // 2


@pytest.mark.parametrize("source", ["grammar", "shortcut"])
def test_they_are_data_sets(source):
    dataset = load_dataset(DatasetConfig(source=source, limit=20))
    assert (dataset.name, dataset.label_names, len(dataset.examples)) == (source, ["negative", "positive"], 20)
    with pytest.raises(InputError, match=rf"dataset.split=dev is not a split of {source}; choose train, test"):
        load_dataset(DatasetConfig(source=source, split="dev"))


@pytest.mark.slow
def test_the_model_goes_by_the_planted_word(tmp_path):
    model = resolve_model(ModelConfig(source="minilm_shortcut"), tmp_path)
    tokenizer, planted = load_tokenizer(model), shortcut_reviews("test")
    classifier = AutoModelForSequenceClassification.from_pretrained(model.folder).eval()

    def right(examples):
        with torch.inference_mode():
            batch = tokenizer([one.text for one in examples], padding=True, return_tensors="pt")
            predicted = classifier(**batch).logits.argmax(1).tolist()
        pairs = zip(predicted, examples, strict=True)
        return sum(model.labels[index] == one.label for index, one in pairs) / len(examples)

    assert right(planted) >= 0.98
    assert right(load_reviews("test")) >= 0.85
