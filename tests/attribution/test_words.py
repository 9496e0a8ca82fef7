from __future__ import annotations

import re

import pytest
import torch
from tiny_tokenizers import SPLITS_PUNCTUATION, TEXT, TOKENIZERS

from attribution.errors import InputError
from attribution.words import Word, aggregate, join_fields, sentence_ids, token_word_ids, words_of

SPACED = ["An", "unhappy", "cat,", "isn't", "it?"]
PUNCTUATED = {
    "WordPiece": ["An", "unhappy", "cat", ",", "isn", "'", "t", "it", "?"],
    "byte-level": ["An", "unhappy", "cat", ",", "isn", "'t", "it", "?"],
}


def words_by(kind, text):
    encoding = TOKENIZERS[kind]().encode(text, add_special_tokens=False)
    ids = token_word_ids(encoding.word_ids, encoding.offsets, text)
    return ids, words_of(ids, encoding.offsets, text)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_words_of_each_kind_of_tokenizer(kind):
    ids, words = words_by(kind, TEXT)
    expected = next((words for start, words in PUNCTUATED.items() if kind.startswith(start)), SPACED)
    assert [word.text for word in words] == expected
    assert all(TEXT[word.start : word.end] == word.text for word in words)
    assert [position for word in words for position in word.tokens] == list(range(len(ids)))
    assert any(len(word.tokens) > 1 for word in words)


UNTIDY = "  An unhappy  cat\n\nis \u4eca\u65e5 \U0001f642 caf\u00e9 \n"


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_spaces_belong_to_the_word_behind_them(kind):
    ids, words = words_by(kind, UNTIDY)
    assert [word.text for word in words if word.text not in "\u4eca\u65e5"] == [
        "An", "unhappy", "cat", "is", "\U0001f642", "caf\u00e9",
    ]  # fmt: skip
    assert "".join(word.text for word in words) == "".join(UNTIDY.split())
    assert [position for word in words for position in word.tokens] == list(range(len(ids)))
    assert sorted(set(ids)) == list(range(len(words)))


def test_every_kind_that_splits_punctuation_is_known():
    assert {kind for kind in TOKENIZERS if "cat" in [w.text for w in words_by(kind, TEXT)[1]]} == {
        kind for kind in TOKENIZERS if kind.startswith(SPLITS_PUNCTUATION)
    }


def test_sentences_end_behind_punctuation_lines_and_texts():
    texts = ('He left. "Why?" she asked\u2026 2.5 times!\nThen (again.) no', "A second text. Its end")
    words = [[(m.start(), m.end()) for m in re.finditer(r"\S+", text)] for text in texts]
    fields = [-1, *(0 for _ in words[0]), -1, *(1 for _ in words[1]), -1]
    offsets = [(0, 0), *words[0], (0, 0), *words[1], (0, 0)]
    expected = [-1, 0, 0, 1, 2, 2, 3, 3, 5, 5, 6, -1, 7, 7, 7, 8, 8, -1]
    assert sentence_ids(fields, offsets, texts) == expected


def test_special_tokens_belong_to_no_word():
    ids = token_word_ids([None, 0, 0, 1, None], [(0, 0), (0, 2), (2, 5), (5, 9), (0, 0)], "crazy day")
    assert ids == [-1, 0, 0, 1, -1]
    assert words_of(ids, [(0, 0), (0, 2), (2, 5), (5, 9), (0, 0)], "crazy day") == [
        Word("crazy", 0, 5, (1, 2)),
        Word("day", 6, 9, (3,)),
    ]


def test_one_word_and_no_words_stay():
    assert token_word_ids([None, 0, 0, None], [(0, 0), (0, 2), (2, 5), (0, 0)], "crazy") == [-1, 0, 0, -1]
    assert token_word_ids([None, None], [(0, 0), (0, 0)], "") == [-1, -1]
    assert words_of([-1, -1], [(0, 0), (0, 0)], "") == []


SCORES = torch.tensor([[9.0, 1.0, -3.0, 2.0, 9.0], [9.0, -1.0, 5.0, -5.0, 7.0]], dtype=torch.double)
WORDS = torch.tensor([[-1, 0, 0, 1, -1], [-1, 0, 1, 1, 2]])


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("sum", [[-2, 2, 0], [-1, 0, 7]]),
        ("mean", [[-1, 2, 0], [-1, 0, 7]]),
        ("max", [[1, 2, 0], [-1, 5, 7]]),
        ("signed_max", [[-3, 2, 0], [-1, 5, 7]]),
    ],
)
def test_aggregate(how, expected):
    assert aggregate(SCORES, WORDS, how).tolist() == expected


def test_aggregate_keeps_totals_leading_dimensions_and_dtype():
    several = torch.stack([SCORES, 2 * SCORES], dim=1).float()  # [B, T, N]
    summed = aggregate(several, WORDS[:, None])
    assert summed.shape == (2, 2, 3)
    assert summed.dtype == torch.float32
    torch.testing.assert_close(summed.sum(-1), (several * (WORDS >= 0)[:, None]).sum(-1))


def test_aggregate_without_words_and_with_an_unknown_reduction():
    assert aggregate(SCORES, torch.full_like(WORDS, -1)).shape == (2, 0)
    with pytest.raises(InputError, match=r"aggregation=median .* sum, mean, max, signed_max"):
        aggregate(SCORES, WORDS, "median")


def test_second_text_continues_the_ids_of_the_first():
    words = torch.tensor([[-1, 0, 0, 1, -1, 0, 1, -1], [-1, 0, -1, 0, 1, 1, -1, -1]])
    fields = torch.tensor([[-1, 0, 0, 0, -1, 1, 1, -1], [-1, 0, -1, 1, 1, 1, -1, -1]])
    assert join_fields(words, fields).tolist() == [[-1, 0, 0, 1, -1, 2, 3, -1], [-1, 0, -1, 1, 2, 2, -1, -1]]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("It rains. Stay in!", ["It rains.", "Stay in!"]),
        ("No end here", ["No end here"]),
        ("3.5 of 5... 'Fine.' she said?  Yes", ["3.5 of 5...", "'Fine.'", "she said?", "Yes"]),
        ("one\ntwo", ["one", "two"]),
    ],
)
def test_sentences_end_at_stops_before_spaces_and_at_lines(text, sentences):
    offsets = [(m.start(), m.end()) for m in re.finditer(r"\S", text)]
    found = sentence_ids([0] * len(offsets), offsets, (text, None))
    groups: dict[int, str] = {}
    for sentence, (start, end) in zip(found, offsets, strict=True):
        groups[sentence] = groups.get(sentence, "") + text[start:end]
    assert list(groups.values()) == [sentence.replace(" ", "") for sentence in sentences]


def test_sentences_of_a_pair_are_numbered_on_and_special_tokens_have_none():
    offsets = [(0, 0), (0, 2), (2, 3), (0, 0), (0, 1), (0, 0)]
    found = sentence_ids([-1, 0, 0, -1, 1, -1], offsets, ("Hi.", "B"))
    assert [s < 0 for s in found] == [True, False, False, True, False, True]
    assert found[1] == found[2] < found[4]
