"""Long texts in windows: how they are cut, and that what is joined is what it should be."""

from __future__ import annotations

import pytest
import torch
from bag_of_words import bag_of_words, contributions
from tiny_models import save_tiny, tiny_model
from transformers import AutoTokenizer

from attribution import Explainer, InputError, Target
from attribution.windows import Windows, answering

LONG = "the film was good and the meal was awful but never dull . a great book , a bad phone and a slow hotel ."
SHORT = "a good film ."


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return AutoTokenizer.from_pretrained(save_tiny("bert", tmp_path_factory.mktemp("model")))


def explainer(tokenizer, name="bert"):
    return Explainer(tiny_model(name), tokenizer)


@pytest.mark.parametrize(("length", "stride"), [(8, 0), (10, 3), (12, 9), (23, 4), (24, 4), (25, 4), (26, 4), (27, 4)])
def test_windows_are_those_of_the_tokenizer(tokenizer, length, stride):
    whole = tokenizer(LONG).encodings[0]
    fields = [-1 if field is None else field for field in whole.sequence_ids]
    cut = tokenizer(LONG, truncation=True, max_length=length, stride=stride, return_overflowing_tokens=True)
    found = Windows.of(fields, length, stride).columns
    assert [[whole.ids[column] for column in columns] for columns in found] == cut["input_ids"]
    assert [[whole.offsets[column] for column in columns] for columns in found] == [e.offsets for e in cut.encodings]


@pytest.mark.parametrize(("length", "stride"), [(10, 0), (12, 2), (16, 5)])
def test_the_first_of_two_texts_is_in_every_window(tokenizer, length, stride):
    whole = tokenizer(SHORT, LONG).encodings[0]
    fields = [-1 if field is None else field for field in whole.sequence_ids]
    options = {"truncation": "only_second", "max_length": length, "stride": stride, "return_overflowing_tokens": True}
    found = Windows.of(fields, length, stride).columns
    assert [[whole.ids[column] for column in columns] for columns in found] == tokenizer(SHORT, LONG, **options)[
        "input_ids"
    ]


def test_votes_add_up_to_one_and_fall_towards_cuts():
    windows = Windows.of([-1, *[0] * 10, -1], 8, 3)
    assert [columns[1:-1] for columns in windows.columns] == [[1, 2, 3, 4, 5, 6], [4, 5, 6, 7, 8, 9], [7, 8, 9, 10]]
    torch.testing.assert_close(windows.votes.sum(0), torch.ones(12, dtype=torch.float64))
    assert windows.votes[:, 4:7].tolist() == [[3 / 4, 2 / 4, 1 / 4], [1 / 4, 2 / 4, 3 / 4], [0, 0, 0]]
    assert windows.votes[:, 0].tolist() == windows.votes[:, 11].tolist() == pytest.approx([1 / 3] * 3)
    assert windows.shares.tolist() == pytest.approx([4.5 / 10, 3 / 10, 2.5 / 10])


def test_a_window_without_room_is_refused():
    with pytest.raises(InputError, match="stride=6: a window of 8 tokens has room for 6 of the text"):
        Windows.of([-1, *[0] * 10, -1], 8, 6)
    with pytest.raises(InputError, match="has room for 0 of the text"):
        Windows.of([-1, *[0] * 10, -1, *[1] * 4, -1], 8)


def test_texts_that_fit_are_explained_as_without_windows(tokenizer):
    plain, windows = (
        explainer(tokenizer).explain([LONG, SHORT], method="attcat", long_texts=how) for how in ("truncate", "windows")
    )
    assert plain == windows
    assert [one.windows for one in windows] == [1, 1]


@pytest.mark.parametrize("stride", [0, 2, 5])
def test_a_model_that_is_additive_over_tokens_is_explained_by_windows_as_whole(tokenizer, stride):
    model = bag_of_words(len(tokenizer))
    options = {"method": "input_x_gradient", "target": 1}
    (whole,) = Explainer(model, tokenizer).explain([LONG], max_length=64, **options)
    (joined,) = Explainer(model, tokenizer).explain(
        [LONG], max_length=9, long_texts="windows", stride=stride, **options
    )
    assert (joined.tokens, joined.offsets, joined.word_ids) == (whole.tokens, whole.offsets, whole.word_ids)
    assert joined.windows == len(range(0, 24 - stride, 7 - stride))
    assert joined.scores == pytest.approx(whole.scores, abs=1e-12)
    assert joined.scores == pytest.approx(contributions(model, torch.tensor(tokenizer(LONG)["input_ids"]), 1).tolist())


def test_the_prediction_is_the_mean_over_windows_by_their_share_of_the_text(tokenizer):
    known = explainer(tokenizer)
    (found,) = known.explain([LONG], method="saliency", max_length=12, long_texts="windows", stride=3)
    options = {"truncation": True, "max_length": 12, "stride": 3, "return_overflowing_tokens": True, "padding": True}
    cut = tokenizer(LONG, return_tensors="pt", **options)
    with torch.no_grad():
        logits = known.model(cut["input_ids"], cut["attention_mask"]).logits
    fields = [-1, *[0] * (len(found.tokens) - 2), -1]
    shares = Windows.of(fields, 12, 3).shares
    assert found.probabilities == pytest.approx((shares @ logits).softmax(0).tolist(), abs=1e-6)
    assert found.prediction == found.target == int((shares @ logits).argmax())
    other = known.explain([LONG], method="saliency", max_length=12, long_texts="windows", stride=3, target="runner_up")
    assert other[0].target == 1 - found.target


def test_every_window_explains_what_the_text_explains(tokenizer):
    known = explainer(tokenizer)
    (found,) = known.explain([LONG], method="attcat", target=1, max_length=10, long_texts="windows", stride=0)
    options = {"truncation": True, "max_length": 10, "return_overflowing_tokens": True, "padding": True}
    cut = tokenizer(LONG, return_tensors="pt", **options)
    scores = known.scores(cut["input_ids"], cut["attention_mask"], method="attcat", target=1)
    inside = torch.cat([row[1 : int(mask.sum()) - 1] for row, mask in zip(scores, cut["attention_mask"], strict=True)])
    assert found.scores[1:-1] == pytest.approx(inside.tolist(), abs=1e-12)
    assert found.scores[0] == pytest.approx(float(scores[:, 0].mean()), abs=1e-12)


def test_words_cut_by_a_window_are_whole_again(tokenizer):
    (found,) = explainer(tokenizer).explain(
        ["unhappily " + LONG],
        method="occlusion",
        unit="word",
        level="word",
        max_length=9,
        long_texts="windows",
        stride=2,
    )
    assert found.tokens == ["unhappily", *LONG.split()]


def test_an_answer_is_explained_in_the_window_that_gives_it(tokenizer):
    known = explainer(tokenizer, "bert_qa")
    pair = ("was it good ?", LONG)
    (found,) = known.explain([pair], method="attcat", max_length=16, long_texts="windows", stride=4)
    options = {"truncation": "only_second", "max_length": 16, "stride": 4, "return_overflowing_tokens": True}
    cut = tokenizer(*pair, return_tensors="pt", padding=True, **options)
    with torch.no_grad():
        output = known.model(cut["input_ids"], cut["attention_mask"], cut["token_type_ids"])
    hidden = cut["attention_mask"] == 0
    ends = [logits.masked_fill(hidden, -torch.inf) for logits in (output.start_logits, output.end_logits)]
    best = torch.stack([logits.argmax(1) for logits in ends], 1)
    totals = sum(logits.amax(1) for logits in ends)
    window = int(totals.masked_fill(best[:, 0] == 0, -torch.inf).argmax())
    assert answering(torch.stack([logits.amax(1) for logits in ends], 1), best) == window
    scores = known.scores(
        cut["input_ids"][[window]], cut["attention_mask"][[window]], method="attcat",
        token_type_ids=cut["token_type_ids"][[window]],
    )  # fmt: skip
    fields = [-1 if field is None else field for field in tokenizer(*pair).encodings[0].sequence_ids]
    columns = Windows.of(fields, 16, 4).columns[window]
    assert [found.scores[column] for column in columns] == pytest.approx(scores[0, : len(columns)].tolist(), abs=1e-12)
    assert not any(score for column, score in enumerate(found.scores) if column not in columns)
    assert found.prediction == found.target == tuple(columns[at] for at in best[window].tolist())


def test_no_answer_is_what_all_windows_say():
    logits, nowhere = torch.tensor([[9.0, 9.0], [1.0, 2.0]]), torch.tensor([[0, 0], [3, 4]])
    assert answering(logits, nowhere) == 1
    assert answering(logits, torch.zeros(2, 2, dtype=torch.long)) == 0


def test_what_was_cut_off_is_told(tokenizer):
    long, short = explainer(tokenizer).explain([LONG, SHORT], method="raw_attention", max_length=10)
    n = len(tokenizer(LONG)["input_ids"])
    assert (long.truncated, long.n_tokens, short.truncated) == (n - 10, 10, 0)
    assert (long.truncated_share, short.truncated_share) == (pytest.approx((n - 10) / n), 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"long_texts": "cut"}, "long_texts=cut is unknown; choices: truncate, windows"),
        ({"target": Target("start", position=3), "long_texts": "windows"}, "leave the position out"),
    ],
)
def test_what_cannot_be_done_is_said(tokenizer, options, words):
    with pytest.raises(InputError, match=words):
        explainer(tokenizer, "bert_qa").explain([(SHORT, LONG)], method="attcat", max_length=16, **options)


def test_next_tokens_have_no_windows(tokenizer):
    with pytest.raises(InputError, match="the next token follows the end of a text"):
        explainer(tokenizer, "gpt2_lm").explain([LONG], method="attcat", max_length=16, long_texts="windows")
