"""Online codes against closed forms, a predictor whose code is known, and the reference's arithmetic by hand."""

from __future__ import annotations

import math

import pytest
import torch

from attribution import InputError
from evaluation.probing import FORMS, PORTIONS, Probe, ProbeRecipe, block_ends, code_length, online_code, probe_code

QUICK = ProbeRecipe(epochs=4, batch_size=32)


def test_blocks_are_those_of_the_reference():
    assert block_ends(1000) == [8, 16, 32, 62, 125, 250, 500, 1000]
    assert block_ends(10) == [1, 2, 5, 10]
    with pytest.raises(InputError, match="which end at 100"):
        block_ends(0)
    with pytest.raises(InputError, match="which end at 100"):
        block_ends(10, PORTIONS[:-1])


@pytest.mark.parametrize(("n", "classes"), [(1000, 2), (640, 8)])
def test_a_predictor_that_knows_nothing_compresses_nothing(n, classes):
    code = online_code(n, classes, lambda a, b: (b - a) * math.log2(classes), block_ends(n))
    assert code.compression == pytest.approx(1, abs=1e-12)


def test_a_predictor_that_knows_everything_pays_for_the_first_block_alone():
    code = online_code(1000, 2, lambda a, b: 0.0, block_ends(1000))
    assert (code.length, code.compression) == (8.0, 125.0)


def test_a_counting_predictor_costs_what_counting_by_hand_does():
    labels = [int(i % 5 == 0) for i in range(40)]

    def code(a, b):
        ones = (sum(labels[:a]) + 1) / (a + 2)
        return -sum(math.log2(ones if label else 1 - ones) for label in labels[a:b])

    found = online_code(40, 2, code, [2, 20, 40])
    first = -(3 * math.log2(2 / 4) + 15 * math.log2(2 / 4))  # one 1 of two: 2 / 4
    second = -(4 * math.log2(5 / 22) + 16 * math.log2(17 / 22))
    assert found.blocks == pytest.approx((2.0, first, second))


def test_strict_lengths_are_bits_and_the_references_nats_of_a_second_softmax():
    logits, labels = torch.tensor([[2.0, 0.0], [0.5, 1.5]]).double(), torch.tensor([0, 0])
    chosen = [math.exp(2) / (math.exp(2) + 1), 1 / (1 + math.e)]
    assert float(code_length(logits, labels, FORMS["strict"])) == pytest.approx(-sum(map(math.log2, chosen)))
    again = [math.exp(p) / (math.exp(p) + math.exp(1 - p)) for p in chosen]
    assert float(code_length(logits, labels, FORMS["reference"])) == pytest.approx(-sum(map(math.log, again)))


def test_the_probe_is_the_references():
    kinds = [type(part).__name__ for part in Probe(32, ProbeRecipe(), 2)]
    assert kinds == ["Dropout", "Linear", "ReLU", "LayerNorm", "Dropout", "Linear"]
    assert sum(p.numel() for p in Probe(32, ProbeRecipe(), 2).parameters()) == 32 * 128 + 128 + 256 + 128 * 2 + 2


@pytest.fixture(scope="module")
def told():
    torch.manual_seed(3)
    labels = torch.randint(2, (400,))
    return torch.randn(400, 8) + 4 * labels[:, None], labels


def test_what_states_tell_is_compressed_and_what_they_do_not_is_not(told):
    states, labels = told
    assert probe_code(states, labels, n_classes=2, recipe=QUICK).compression > 2
    shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]
    assert probe_code(states, shuffled, n_classes=2, recipe=QUICK).compression < 1.05


def test_the_second_softmax_bounds_what_the_reference_can_reach(told):
    states, labels = told
    code = probe_code(states, labels, n_classes=2, form="reference", recipe=QUICK)
    least = math.log(1 + math.exp(-1))  # of a probability of 1, once more through a softmax
    assert all(length >= n * least for length, n in zip(code.blocks[1:], (3, 6, 13, 25, 50, 100, 200), strict=True))
    assert code.blocks[0] == 3.0


def test_a_seed_decides_the_code_and_nothing_else_random_moves(told):
    states, labels = told
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    first = probe_code(states, labels, n_classes=2, recipe=QUICK)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert probe_code(states, labels, n_classes=2, recipe=QUICK) == first
    assert probe_code(states, labels, n_classes=2, recipe=ProbeRecipe(epochs=4, batch_size=32, seed=1)) != first


def test_an_unknown_form_is_named():
    with pytest.raises(InputError, match="choices: strict, reference"):
        probe_code(torch.zeros(4, 2), torch.zeros(4), n_classes=2, form="loose")
