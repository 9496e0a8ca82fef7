"""Mean maps and maps of words, by hand."""

from __future__ import annotations

import pytest
import torch
from planted import at, even, planted
from test_attention_roles import some, texts
from tiny_models import tiny_model

from attribution import Explainer, InputError
from attribution.heads.maps import maps_of, mean_attention, offset_profile, without, word_map


def test_each_pair_is_divided_by_the_texts_that_have_it():
    """Texts of 3 and of 5 tokens, evenly attended: 1/3 where only the short one counted, 1/5, and their mean."""
    found = mean_attention(planted(even), [texts([5, 6, 7], [5, 6, 7, 8, 9])], length=6)
    assert found.pairs.diagonal().tolist() == [2, 2, 2, 1, 1, 0]
    assert found.pairs[0].tolist() == found.pairs[:, 0].tolist() == [2, 2, 2, 1, 1, 0]
    mean = found.mean[0, 0]
    torch.testing.assert_close(mean[:3, :3], torch.full((3, 3), (1 / 3 + 1 / 5) / 2).double())
    torch.testing.assert_close(mean[3:5, :5], torch.full((2, 5), 1 / 5).double())
    torch.testing.assert_close(mean[:3, 3:5], torch.full((3, 2), 1 / 5).double())
    assert mean[5].abs().sum() == mean[:, 5].abs().sum() == 0


def test_neither_batches_nor_padding_matter():
    explainer, rows = Explainer(tiny_model("bert")), some(5)
    whole = mean_attention(explainer, [texts(*rows)], length=7)
    parts = mean_attention(explainer, [texts(*rows[:2], width=20, side="left"), texts(*rows[2:])], length=7)
    assert whole.total.shape == (3, 4, 7, 7)
    assert torch.equal(parts.pairs, whole.pairs)
    torch.testing.assert_close(parts.mean, whole.mean, rtol=0, atol=1e-12)
    with pytest.raises(InputError, match="give at least one batch"):
        mean_attention(planted(at(0)), [])


def test_words_add_up_what_they_get_and_average_what_they_give():
    """[CLS] un happy cat [SEP], the second and third token one word."""
    attention = torch.tensor(
        [
            [0.1, 0.2, 0.3, 0.4, 0.0],
            [0.5, 0.1, 0.1, 0.1, 0.2],
            [0.3, 0.3, 0.1, 0.1, 0.2],
            [0.0, 0.0, 0.0, 0.0, 1.0],
            [0.2, 0.2, 0.2, 0.2, 0.2],
        ]
    ).double()
    found = word_map(attention, torch.tensor([-1, 0, 0, 1, -1]))
    expected = [[0.1, 0.5, 0.4, 0.0], [0.4, 0.3, 0.1, 0.2], [0.0, 0.0, 0.0, 1.0], [0.2, 0.4, 0.2, 0.2]]
    torch.testing.assert_close(found, torch.tensor(expected).double())


def test_rows_of_words_add_up_to_one_and_single_tokens_stay():
    rows = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0)).double()
    attention = rows / rows.sum(-1, keepdim=True)
    assert torch.equal(word_map(attention, torch.tensor([-1, 0, 1, 2, 3, -1])), attention)
    joined = word_map(attention, torch.tensor([-1, 0, 0, 1, 1, -1]))
    assert joined.shape == (2, 3, 4, 4)
    torch.testing.assert_close(joined.sum(-1), torch.ones(2, 3, 4).double())


def test_offsets_are_key_less_query_and_miss_nothing_in_short_texts():
    """By hand: two texts of 3 and 2 tokens, all of whose weight is one to the left where there is a token."""
    left = torch.zeros(1, 1, 3, 3)
    left[0, 0, [0, 1, 2], [0, 0, 1]] = 1
    maps = maps_of([left], torch.ones(1, 3, dtype=torch.bool), 4) + maps_of(
        [left], torch.tensor([[True, True, False]]), 4
    )
    assert offset_profile(maps, 2)[0, 0].tolist() == pytest.approx([0, 3 / 5, 2 / 5, 0, 0])
    assert offset_profile(maps, 3).sum() == pytest.approx(1)


def test_hidden_tokens_are_left_out_and_rows_made_whole_only_if_asked():
    attention = torch.tensor([[0.5, 0.2, 0.3], [0.6, 0.0, 0.4], [1.0, 0.0, 0.0]], dtype=torch.float64)
    hidden = torch.tensor([True, False, False])
    assert without(attention, hidden, renormalise=False).tolist() == [[0.0, 0.4], [0.0, 0.0]]
    assert without(attention, hidden, renormalise=True).tolist() == [[0.0, 1.0], [0.0, 0.0]]
