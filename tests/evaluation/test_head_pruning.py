"""Pruning curves and rank stability of heads on models of which the answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_models import one_strong_head_a_layer, tiny_model

from attribution import Explainer, InputError
from attribution.heads import IMPORTANCES, head_importances
from attribution.heads.importance import Importance
from attribution.heads.totals import Units
from evaluation.head_pruning import (
    PruningCurve,
    PruningCurves,
    one_head_left,
    pruning_curves,
    random_order,
    removal_order,
)
from evaluation.head_stability import rank_stability, split_half_stability

DEAD = [(0, 1), (1, 0), (1, 3), (2, 2)]


def batch(rows=6, length=8):
    ids = torch.randint(5, 90, (rows, length), generator=torch.Generator().manual_seed(5))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    return {"input_ids": ids * mask, "attention_mask": mask, "labels": torch.arange(rows) % 2}


@pytest.fixture
def planted():
    """An explainer of a model in which four heads do nothing."""
    model = tiny_model("bert")
    with torch.no_grad():
        for layer, head in DEAD:
            model.bert.encoder.layer[layer].attention.output.dense.weight[:, 8 * head : 8 * head + 8] = 0
    return Explainer(model)


def test_heads_that_do_nothing_cost_nothing_and_the_ranking_knows_them(planted):
    scores = head_importances(planted, [batch()], methods=["gate_grad"])["gate_grad"].scores
    counts = [number / 12 for number in range(13)]
    curves = pruning_curves(planted, [batch()], {"gate_grad": scores}, fractions=counts)["gate_grad"]
    assert curves.least_first.removed.tolist() == list(range(13))
    assert set(removal_order(scores)[:4]) == {4 * layer + head for layer, head in DEAD}
    torch.testing.assert_close(curves.least_first.loss[:5], curves.least_first.loss[:1].expand(5, -1))
    assert (curves.least_first.loss[5] != curves.least_first.loss[0]).all()
    assert (curves.most_first.loss[1] != curves.most_first.loss[0]).all()
    # Whatever the order, the ends are the intact model and the one without heads.
    for curve in [curves.most_first, *curves.random]:
        assert torch.equal(curve.loss[[0, -1]], curves.least_first.loss[[0, -1]])
    assert len(curves.random) == 5


def test_losses_and_decisions_are_those_of_a_model_with_weights_cut_off(planted):
    given, model = batch(), planted.model
    scores = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    curve = pruning_curves(planted, [given], {"r": scores}, fractions=[0.5])["r"].least_first
    with torch.no_grad():
        for number in removal_order(scores)[:6]:
            layer, head = divmod(number, 4)
            model.bert.encoder.layer[layer].attention.output.dense.weight[:, 8 * head : 8 * head + 8] = 0
        logits = model(given["input_ids"], attention_mask=given["attention_mask"]).logits
    expected = F.cross_entropy(logits, given["labels"], reduction="none")
    assert curve.removed.tolist() == [6]
    torch.testing.assert_close(curve.loss[0], expected)
    assert curve.decided[0].tolist() == (logits.argmax(1) == given["labels"]).double().tolist()


def test_without_labels_the_intact_predictions_are_kept_to(planted):
    given = {name: value for name, value in batch().items() if name != "labels"}
    curve = pruning_curves(planted, [given], {"r": torch.rand(3, 4)}, fractions=[0, 1])["r"].least_first
    assert curve.decided[0].tolist() == [1] * 6


def test_one_head_of_every_layer_may_stay(planted):
    scores = torch.arange(12.0).view(3, 4)
    curves = pruning_curves(planted, [batch()], {"r": scores}, fractions=[1.0], keep_one=True)["r"]
    assert curves.least_first.removed.tolist() == [9]
    best = torch.zeros(3, 4, dtype=torch.bool)
    best[:, 3] = True
    loss, decided = one_head_left(planted, [batch()], scores)
    assert loss.shape == decided.shape == (3, 6)
    assert not torch.equal(loss[0], curves.least_first.loss[0])


def test_areas_by_hand():
    removed, loss = torch.tensor([0, 1, 4]), torch.tensor([[1.0, 0], [3, 2], [5, 2]]).double()
    curve = PruningCurve(removed, loss, torch.tensor([[1.0, 1], [1, 0], [0, 0]]).double())
    assert curve.area("loss").tolist() == [0.25 * 2 + 0.75 * 4, 0.25 * 1 + 0.75 * 2]
    assert curve.area().tolist() == [0.25 + 0.75 / 2, 0.125]


def test_ranking_that_knows_the_few_heads_that_matter_beats_chance():
    given = {name: value for name, value in batch(64).items() if name != "labels"}
    explainer = Explainer(one_strong_head_a_layer(0.01))
    scores = head_importances(explainer, [given], methods=["gate_grad"])["gate_grad"].scores
    assert scores.flatten().topk(3).indices.sort().values.tolist() == [0, 5, 10]
    curves = pruning_curves(explainer, [given], {"right": scores, "opposite": -scores}, fractions=[0, 0.25, 0.5, 0.75])
    difference = curves["right"].against_random("loss")
    # Without heads a random model may be surer of what it said, so that only one way has to do with the loss.
    assert difference["least_first"].high < 0
    loss = curves["right"].least_first.loss
    unimportant = (loss[-1] - loss[0]).abs().mean()  # nine of twelve heads
    important = (curves["right"].most_first.loss[1] - loss[0]).abs().mean()  # the other three
    assert unimportant < important / 3
    # The opposite ranking is the same curves, the other way round.
    assert torch.equal(curves["opposite"].least_first.loss, curves["right"].most_first.loss)


def test_random_orders_beaten_by_hand():
    def curve(height):
        flat = torch.full((2, 4), height, dtype=torch.float64)
        return PruningCurve(torch.tensor([0, 12]), flat, 1 - flat)

    curves = PruningCurves(curve(0.3), curve(0.9), [curve(height) for height in (0.1, 0.2, 0.4, 0.5, 0.6)])
    assert curves.beaten("loss") == curves.beaten("decided") == 3
    difference = curves.against_random("loss")
    assert difference["least_first"].value == pytest.approx(0.3 - 0.36)
    assert difference["most_first"].value == pytest.approx(0.9 - 0.36)
    assert curves.against_random()["least_first"].value == pytest.approx(0.06)


def test_orders():
    scores = torch.tensor([[0.3, 0.1], [0.2, -1]])
    assert removal_order(scores) == [3, 1, 2, 0]
    assert sorted(removal_order(torch.zeros(3, 4))) == list(range(12)) != removal_order(torch.zeros(3, 4))
    assert random_order((3, 4), 0) != random_order((3, 4), 1)
    assert sorted(random_order((3, 4), 1)) == list(range(12))


def test_rankings_of_another_shape_or_with_holes_are_refused(planted):
    with pytest.raises(InputError, match=r"ranking r: finite scores \[3, 4\] are needed"):
        pruning_curves(planted, [batch()], {"r": torch.zeros(4, 3)})
    with pytest.raises(InputError, match="finite scores"):
        pruning_curves(planted, [batch()], {"r": torch.full((3, 4), math.nan)})
    with pytest.raises(InputError, match="at least one batch"):
        pruning_curves(planted, [], {"r": torch.zeros(3, 4)})


def importance_of(values):
    count = torch.ones(len(values), dtype=torch.float64)
    return Importance(IMPORTANCES["leave_one_out"], {}, Units(values.double(), count, count * 7, True))


def test_halves_agree_as_far_as_examples_do():
    order = torch.arange(12.0).view(1, 3, 4)
    alike = split_half_stability(importance_of(order.expand(8, -1, -1)), top=3).means()
    assert alike == pytest.approx({"spearman": 1, "kendall": 1, "top_overlap": 1})
    noise = torch.randn(400, 3, 4, generator=torch.Generator().manual_seed(2))
    chance = split_half_stability(importance_of(noise), splits=40)
    assert len(chance.spearman) == 40
    assert abs(chance.means()["spearman"]) < 0.2
    between = split_half_stability(importance_of(noise + order / 20)).means()["spearman"]
    assert 0.5 < between < 1
    with pytest.raises(InputError, match="four or more"):
        split_half_stability(importance_of(noise[:3]))


def test_stability_over_runs_compares_every_two():
    base = torch.arange(12.0).view(3, 4)
    found = rank_stability([base, base * 2 + 1, -base], top=4)
    np.testing.assert_allclose(found.spearman, [1, -1, -1])
    np.testing.assert_allclose(found.kendall, [1, -1, -1])
    np.testing.assert_allclose(found.top_overlap, [1, 0, 0])
    with pytest.raises(InputError, match="two or more"):
        rank_stability([base])
