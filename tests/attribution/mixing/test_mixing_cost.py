"""Matrix products that value zeroing takes, in those of a plain forward."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2ForSequenceClassification

from attribution import Explainer, Inputs

SIZES = {"vocab_size": 100, "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}


def encoder():
    return Explainer(BertForSequenceClassification(BertConfig(**SIZES, intermediate_size=512)).eval())


def decoder():
    config = GPT2Config(vocab_size=100, n_embd=128, n_layer=2, n_head=4, pad_token_id=0)
    return Explainer(GPT2ForSequenceClassification(config).eval())


def products(work) -> int:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        work()
    return counter.get_total_flops()


def forwards(explainer, length, **options) -> float:
    ids = torch.randint(5, 100, (2, length), generator=torch.Generator().manual_seed(0))
    zeroing = lambda: explainer.context_mixing(ids, method="value_zeroing", **options)  # noqa: E731
    zeroing()  # folds the weights
    return products(zeroing) / products(lambda: explainer.adapter.forward(Inputs.of(ids)))


@pytest.mark.parametrize("length", [8, 32, 64])
def test_a_row_costs_less_than_another_forward_however_long_the_text(length):
    assert forwards(encoder(), length, rows=[3]) < 1.75


def test_the_matrix_costs_a_third_of_a_forward_for_every_token():
    n, h, d = 32, 4, 128
    pairs = 8 * n * d * d + 2 * n * h * d * 5  # second projection, and rank-H updates of width d and 4 d, for n keys
    expected = 1 + (2 * d * d * 5 + 16 * d * d + pairs) / (24 * d * d + 4 * n * d)
    assert forwards(encoder(), n) == pytest.approx(expected, rel=0.05)


def test_pairs_that_a_decoder_does_not_see_are_not_computed():
    assert forwards(decoder(), 32, memory=2**20) < 0.62 * forwards(encoder(), 32)
    assert forwards(decoder(), 32, rows=[0]) < 1.2
