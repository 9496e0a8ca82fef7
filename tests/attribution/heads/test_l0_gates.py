"""Gates that close: their distribution by its formula, and which heads they keep in a model that is known."""

from __future__ import annotations

import pytest
import torch
from importance_inputs import batch, split
from tiny_models import one_strong_head_a_layer, tiny_model

from attribution import Explainer, InputError
from attribution.heads import IMPORTANCES, head_importance, head_importances
from attribution.heads.gate_importance import parts_of
from attribution.heads.importance import as_probe, needs_all_texts, own_passes
from attribution.heads.importance_methods import Size
from attribution.heads.l0_gates import l0_gates, l0_path, open_probability, sampled_gates, settled_gates
from attribution.heads.regroup import regrouped
from attribution.heads.rows import intact, rows_of


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


@pytest.fixture
def lopsided():
    """Of each layer one head is strong; the others hardly say anything, so that only a penalty decides on them."""
    return one_strong_head_a_layer(0.001)


STRONG = torch.eye(4, dtype=torch.bool)[:3]


def test_gates_learn_which_heads_are_needed(lopsided):
    model = lopsided
    given = {name: value for name, value in batch(24).items() if name != "labels"}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = l0_gates(Explainer(model), [given], penalty=0.02, steps=120, rate=0.2)
    assert found.p_open[~STRONG].max() < 0.2
    assert found.p_open[STRONG].max() > 0.9
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


SHORT = {"method": "l0_gates", "parts": 2, "steps": 3, "batch": 2}


def test_importance_is_what_each_part_of_the_texts_keeps_open(lopsided):
    explainer, given = Explainer(lopsided), batch(24, labels=None)
    asked = {"method": "l0_gates", "parts": 2, "steps": 80, "batch": 6, "penalty": 0.02, "rate": 0.2}
    found = head_importances(explainer, [given], methods={"m": asked})["m"]
    assert found.scores[STRONG].max() > 0.9
    assert found.scores[~STRONG].max() < 0.3
    assert found.per_example.shape == (2, 3, 4)
    torch.testing.assert_close(found.scores, (found.per_example / 12).mean(0))
    torch.testing.assert_close(found.interval[..., 0], (found.per_example / 12).amin(0))


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("labels", [2, None])
def test_neither_batches_nor_order_nor_padding_matter(bert, side, labels):
    explainer, given = Explainer(bert), batch(7, labels=labels)
    whole = head_importance(explainer, [given], **SHORT)
    turned = {name: value.flip(0) for name, value in given.items()}
    if side == "left":
        roll = [int(n) for n in 9 - turned["attention_mask"].sum(1)]
        for name in ("input_ids", "attention_mask"):
            turned[name] = torch.stack([row.roll(n) for row, n in zip(turned[name], roll, strict=True)])
    found = head_importance(explainer, split(turned, 2, 1, 4), **SHORT)
    torch.testing.assert_close(found, whole, rtol=1e-10, atol=1e-12)
    assert not torch.equal(head_importance(explainer, [given], **SHORT, seed=1), whole)


def test_importance_trains_on_the_labels_there_are(bert):
    explainer, given = Explainer(bert), batch(6)
    other = {**given, "labels": 1 - given["labels"]}
    assert not torch.equal(head_importance(explainer, [given], **SHORT), head_importance(explainer, [other], **SHORT))


@pytest.mark.parametrize("name", ["bert", "bert_qa", "gpt2_lm", "llama_qa", "bert_multi"])
def test_regrouped_examples_say_what_they_said(name):
    explainer, given = Explainer(tiny_model(name)), batch(5, labels=None)
    if name == "bert_qa":
        given |= {"start_positions": torch.arange(5) % 3, "end_positions": torch.arange(5) % 3 + 1}
    rows = list(rows_of(explainer, split(given, 2, 3)))
    (back,) = regrouped(rows, [[4, 0, 3]])
    parts = [one for each in rows for one in zip(*(part.index for part in each.parts(intact(each))), strict=True)]
    found = list(zip(*(part.index for part in back.parts(intact(back))), strict=True))
    assert found == [parts[number] for number in (4, 0, 3)]
    logits = torch.cat([intact(each) for each in rows])
    expected = logits[[4, 0, 3]]
    torch.testing.assert_close(intact(back), expected[:, : back.inputs.shape[1]] if name.endswith("qa") else expected)


def test_parts_are_of_one_size_and_no_more_than_texts(bert):
    explainer = Explainer(bert)
    rows = list(rows_of(explainer, [batch(9)]))
    assert parts_of(rows, parts=4).bincount().tolist() == [3, 2, 2, 2]
    assert not torch.equal(parts_of(rows, parts=4), parts_of(rows, parts=4, seed=1))
    few = head_importances(explainer, [batch(3)], methods={"m": {**SHORT, "parts": 5}})["m"]
    assert len(few.per_example) == 3


def test_what_training_takes():
    spec = {"method": "l0_gates", "parts": 2, "steps": 10, "batch": 8}
    assert own_passes(spec, Size(100, 6, 12)) == (160, 160)
    assert own_passes(spec, Size(6, 6, 12)) == (60, 60)
    assert own_passes("gate_grad", Size(100, 6, 12)) == (0, 0)
    assert own_passes("leave_one_out", Size(100, 6, 12)) == (7200, 0)


def test_what_depends_on_all_texts_says_what_it_takes():
    """Its time is estimated by it."""
    assert as_probe({"method": "l0_gates", "steps": 900, "rate": 0.3})["steps"] == 8
    specs = [*IMPORTANCES, *({"method": "leave_one_out", "ablation": kind} for kind in ("mean", "resample"))]
    for spec in filter(needs_all_texts, specs):
        assert own_passes(as_probe(spec), Size(2, 1, 1))[0] > 0


WRONG = {"parts": 0, "steps": 1.5, "batch": "all", "penalty": -1, "rate": 0, "seed": -1}


@pytest.mark.parametrize(("name", "value"), WRONG.items())
def test_numbers_that_mean_nothing_are_named(bert, name, value):
    with pytest.raises(InputError, match=f"importance.{name}={value} must be a "):
        head_importance(Explainer(bert), [batch()], method="l0_gates", **{name: value})
