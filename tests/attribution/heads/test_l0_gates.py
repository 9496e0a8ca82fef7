"""Gates that close: their distribution by its formula, and which heads they keep in a model that is known."""

from __future__ import annotations

import pytest
import torch
from importance_inputs import batch
from tiny_models import tiny_model

from attribution import Explainer, InputError
from attribution.heads.l0_gates import l0_gates, l0_path, open_probability, sampled_gates, settled_gates


@pytest.mark.parametrize("log_a", [-3.0, -1.0, 0.0, 0.7, 2.5])
def test_share_of_open_gates_is_the_formula(log_a):
    drawn = torch.rand(100_000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    gates = sampled_gates(torch.tensor(log_a).double(), drawn)
    expected = float(open_probability(torch.tensor(log_a).double()))
    assert 0 <= gates.min() <= gates.max() <= 1
    assert abs(float((gates > 0).double().mean()) - expected) < 3 * (expected * (1 - expected) / 100_000) ** 0.5


def test_settled_gates_are_open_or_closed_and_always_the_same():
    log_a = torch.tensor([5.0, -5.0, 0.0]).double()
    gates = settled_gates(log_a)
    assert gates[0] > 0.99
    assert gates[1] == 0
    assert float(gates[2]) == pytest.approx(0.5)
    assert torch.equal(gates, settled_gates(log_a))


def test_gates_learn_which_heads_are_needed():
    """Of each layer one head is strong; the others hardly say anything, so that only a penalty decides on them."""
    model = tiny_model("bert")
    with torch.no_grad():
        for number, layer in enumerate(model.bert.encoder.layer):
            strength = torch.full((4,), 0.001).index_fill(0, torch.tensor([number]), 3)
            layer.attention.output.dense.weight *= strength.repeat_interleave(8)
    given = {name: value for name, value in batch(24).items() if name != "labels"}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = l0_gates(Explainer(model), [given], penalty=0.02, steps=120, rate=0.2)
    strong = torch.eye(4, dtype=torch.bool)[:3]
    assert found.p_open[~strong].max() < 0.2
    assert found.p_open[strong].max() > 0.9
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_without_a_penalty_gates_stay_open_and_with_a_huge_one_all_close():
    explainer, given = Explainer(tiny_model("bert")), batch(4)
    assert l0_gates(explainer, [given], penalty=100.0, steps=60, rate=0.3).kept.sum() == 0
    assert l0_gates(explainer, [given], penalty=0.0, steps=1).kept.all()


def test_the_same_seed_gives_the_same_gates():
    explainer, given = Explainer(tiny_model("bert")), batch(4)
    first, second, other = (l0_gates(explainer, [given], steps=3, seed=seed).log_a for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_path_is_the_mean_over_penalties():
    explainer, given = Explainer(tiny_model("bert")), batch(4)
    each = [l0_gates(explainer, [given], penalty=penalty, steps=3).p_open for penalty in (0.1, 1.0)]
    path = l0_path(explainer, [given], penalties=(0.1, 1.0), steps=3)
    torch.testing.assert_close(path, (each[0] + each[1]) / 2)


def test_there_has_to_be_text():
    with pytest.raises(InputError, match="give at least one batch"):
        l0_gates(Explainer(tiny_model("bert")), [])
