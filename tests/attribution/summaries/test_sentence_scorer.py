from __future__ import annotations

import pytest
import torch
from tiny_models import CONFIGURATIONS, tiny_model
from transformers import AutoModelForTokenClassification, BertConfig, BertTokenizerFast

from attribution.errors import InputError
from attribution.summaries import encode, sentence_logits

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "d"]


@pytest.fixture
def letters(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(WORDS))
    return BertTokenizerFast(str(path))


@pytest.fixture
def scorer():
    torch.manual_seed(0)
    config = BertConfig(**{**CONFIGURATIONS["bert"][1], "num_labels": 1})
    return AutoModelForTokenClassification.from_config(config).eval().double()


def test_documents_by_hand(letters):
    batch = encode(letters, [["a b", "c"], ["d"]])
    assert batch.input_ids.tolist() == [[2, 5, 6, 3, 2, 7, 3], [2, 8, 3, 0, 0, 0, 0]]
    assert batch.attention_mask.tolist() == [[1] * 7, [1] * 3 + [0] * 4]
    assert batch.token_type_ids.tolist() == [[0] * 4 + [1] * 3, [0] * 7]
    assert batch.starts.tolist() == [[0, 4], [0, 0]]
    assert batch.given.tolist() == [[True, True], [True, False]]


def test_what_is_too_long_is_cut(letters):
    batch = encode(letters, [["a b", "c d", "a"]], max_length=6)
    assert batch.input_ids.tolist() == [[2, 5, 6, 3, 2, 3]]
    assert batch.token_type_ids.tolist() == [[0, 0, 0, 0, 1, 1]]
    assert batch.starts.tolist() == [[0, 4]]
    one_less = encode(letters, [["a b", "c d", "a"]], max_length=5)
    assert one_less.input_ids.tolist() == [[2, 5, 6, 3, 3]]
    assert one_less.starts.tolist() == [[0]]  # a first token that the last separator replaced


def test_scores_are_those_at_the_first_tokens(letters, scorer):
    batch = encode(letters, [["a b", "c", "d d d"], ["d a"]])
    found = sentence_logits(scorer, batch)
    assert found.shape == (2, 3)
    alone = encode(letters, [["d a"]])
    expected = scorer(alone.input_ids, alone.attention_mask, alone.token_type_ids).logits[0, 0, 0]
    torch.testing.assert_close(found[1, 0], expected)
    torch.testing.assert_close(sentence_logits(scorer, encode(letters, [["a b", "c", "d d d"]])), found[:1])


def test_models_that_score_no_sentences_are_refused(letters, scorer):
    with pytest.raises(InputError, match="BertForSequenceClassification with 2 labels scores no sentences"):
        sentence_logits(tiny_model("bert"), encode(letters, [["a"]]))
    scorer.config.num_labels = 2
    with pytest.raises(InputError, match="num_labels=1"):
        sentence_logits(scorer, encode(letters, [["a"]]))


def test_documents_without_sentences_are_refused(letters):
    for documents in ([], [["a"], []]):
        with pytest.raises(InputError, match="at least one sentence"):
            encode(letters, documents)
    letters.cls_token = None
    with pytest.raises(InputError, match=r"no \[CLS\] and \[SEP\]"):
        encode(letters, [["a"]])
