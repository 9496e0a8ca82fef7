"""The embedded corpus: counts, balance, rationales, and that the splits share nothing."""

from __future__ import annotations

import json
import re
from collections import Counter
from importlib.resources import files
from itertools import combinations, pairwise

import pytest

from pipeline.data.reviews import PHENOMENA, SPLITS, Review, load_reviews

WORD = re.compile(r"[\w'’]+")


@pytest.fixture(scope="module")
def reviews() -> dict[str, list[Review]]:
    return {split: load_reviews(split) for split in SPLITS}


@pytest.fixture(scope="module")
def corpus(reviews: dict[str, list[Review]]) -> list[Review]:
    return [review for split in SPLITS for review in reviews[split]]


def trigrams(text: str) -> set[tuple[str, ...]]:
    words = WORD.findall(text.lower())
    return set(zip(words, words[1:], words[2:], strict=False)) or {tuple(words)}


def near_duplicates(first: set[tuple[str, ...]], second: set[tuple[str, ...]]) -> bool:
    return 2 * len(first & second) >= len(first | second)


def test_size_and_balance(reviews: dict[str, list[Review]], corpus: list[Review]) -> None:
    assert len(corpus) >= 500
    assert len(reviews["test"]) >= 120
    for split in SPLITS:
        labels = Counter(review.label for review in reviews[split])
        assert set(labels) == {"positive", "negative"}
        assert labels["positive"] == labels["negative"]


def test_every_domain_is_balanced_in_both_splits(reviews: dict[str, list[Review]]) -> None:
    domains = {split: Counter((review.domain, review.label) for review in reviews[split]) for split in SPLITS}
    names = {domain for domain, _ in domains["train"]}
    assert {"film", "meal", "book", "gadget", "hotel"} < names
    for split in SPLITS:
        for name in names:
            positive, negative = domains[split][name, "positive"], domains[split][name, "negative"]
            assert min(positive, negative) >= 1
            assert abs(positive - negative) <= 2


def test_texts_are_short_reviews(corpus: list[Review]) -> None:
    lengths = [len(review.text.split()) for review in corpus]
    assert min(lengths) >= 5
    assert max(lengths) <= 45
    assert sum(8 <= length <= 25 for length in lengths) > 0.8 * len(lengths)
    assert all(review.text == " ".join(review.text.split()) for review in corpus)


def test_rationales_are_words_that_differ_from_the_whole(corpus: list[Review]) -> None:
    for review in corpus:
        spans = review.rationale
        assert spans, review.id
        for start, end in spans:
            assert 0 <= start < end <= len(review.text), review.id
            assert re.fullmatch(r"\w.*\w|\w", review.text[start:end]), (review.id, review.text[start:end])
            assert not review.text[start - 1 : start].isalnum(), review.id
            assert not review.text[end : end + 1].isalnum(), review.id
        assert all(left[1] < right[0] for left, right in pairwise(spans)), review.id


def test_rationales_leave_most_words_out(corpus: list[Review]) -> None:
    marked = sum(end - start for review in corpus for start, end in review.rationale or ())
    assert 0.15 < marked / sum(len(review.text) for review in corpus) < 0.45


def test_phenomena_are_known_and_all_in_the_test_split(reviews: dict[str, list[Review]]) -> None:
    for split in SPLITS:
        counts = Counter(name for review in reviews[split] for name in review.phenomena)
        assert set(counts) == set(PHENOMENA)
        assert 0.02 < counts["irony"] / len(reviews[split]) < 0.12


def test_no_near_duplicates_within_or_across_splits(corpus: list[Review]) -> None:
    grams = [trigrams(review.text) for review in corpus]
    for (a, first), (b, second) in combinations(zip(grams, corpus, strict=True), 2):
        assert not near_duplicates(a, b), (first.id, second.id)


def test_one_changed_word_makes_a_near_duplicate() -> None:
    first = "The soup was cold, the bread was hard and the waiter was asleep"
    assert near_duplicates(trigrams(first), trigrams(first.replace("asleep", "away")))
    assert not near_duplicates(trigrams(first), trigrams("The soup was cold, but I loved every spoonful of it"))


def test_ids_and_rows_name_each_review_once(reviews: dict[str, list[Review]], corpus: list[Review]) -> None:
    assert len({review.id for review in corpus}) == len(corpus)
    assert all(review.id.startswith(f"{review.domain}-") for review in corpus)
    for split in SPLITS:
        assert [review.row_index for review in reviews[split]] == list(range(len(reviews[split])))


def test_nothing_of_the_file_is_lost(corpus: list[Review]) -> None:
    lines = files("pipeline.data").joinpath("reviews.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["text"] for line in lines} == {review.text for review in corpus}
    assert len(lines) == len(corpus)


def test_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="train and test, not dev"):
        load_reviews("dev")
