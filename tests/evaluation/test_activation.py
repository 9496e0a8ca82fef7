"""AUAC, AU-MSE and the conservation error against closed forms and against the protocol in a loop."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from tiny_models import tiny_model

from attribution import Explainer, InputError
from attribution.model.inputs import Inputs
from evaluation import CURVES, METRICS, Curves, evaluate, run_curves
from evaluation.activation import FRACTIONS

CLS, SEP, PAD, UNK = 2, 3, 0, 1
IDS = torch.tensor([[CLS, 12, 19, 10, 16, 14, SEP, PAD, PAD], [CLS, 11, 13, 15, 17, 18, 12, 19, SEP]])
MASK = (IDS != PAD).long()
WEIGHTS = torch.zeros(20)
WEIGHTS[CLS] = 0.05
WEIGHTS[10:20] = torch.arange(1, 11) / 100


def drawn(explainer, family, scores, target=1, operator=None):
    request = CURVES[family].request(scores, (), operator)
    return run_curves(explainer, Inputs.of(IDS, MASK), {"": request}, target=target)[""]


@pytest.fixture(scope="module")
def bert():
    model = tiny_model("bert")
    model.config.unk_token_id = UNK
    explainer = Explainer(model)
    explainer.adapter._special_ids = torch.tensor([PAD, CLS, SEP])
    return explainer


def counts(n):
    """ceil(q n) in whole numbers."""
    return [-(-step * n // 10) for step in range(11)]


def trapezoid(values):
    return sum((a + b) / 20 for a, b in pairwise(values))


@pytest.mark.parametrize("sign", [1, -1])
def test_14_perfect_relevance_of_a_linear_model_has_the_analytic_areas(bag_of_words, sign):
    """Revealed are the heaviest tokens, pruned the lightest, whatever the sign of what is pruned."""
    curves = drawn(bag_of_words, "activation", WEIGHTS[IDS] * MASK)
    pruned = drawn(bag_of_words, "pruning", sign * WEIGHTS[IDS] * MASK)
    for row, (n, weights) in enumerate(((7, [10, 7, 5, 5, 3, 1, 0]), (9, [10, 9, 8, 6, 5, 4, 3, 2, 0]))):
        best_first = np.concatenate(([0.0], np.cumsum(weights))) / 100
        shown = [best_first[k] for k in counts(n)]
        left = [best_first[n - k] for k in counts(n)]
        assert curves.counts[row].tolist() == counts(n)
        assert evaluate("auac", curves=curves)[row].item() == pytest.approx(trapezoid(shown), abs=1e-6)
        assert evaluate("aupc", curves=pruned)[row].item() == pytest.approx(trapezoid(left), abs=1e-6)
        logits = [math.log(p / (1 - p)) for p in left if p > 0]  # of nothing it is infinite
        moved = [(logit - logits[0]) ** 2 for logit in logits]
        assert pruned.squared_errors[row, : len(moved)].tolist() == pytest.approx(moved, abs=1e-5)
        assert len(moved) >= 9


@pytest.mark.parametrize("family", ["activation", "pruning"])
def test_14_curves_are_those_of_a_loop_over_texts_and_levels(bert, family):
    """The steps of the protocol one at a time, with NumPy: which ids, softmax of the gold class, squared errors."""
    scores = torch.randn(2, 9, generator=torch.Generator().manual_seed(0)).double()
    gold = torch.tensor([1, 0])
    curves = drawn(bert, family, scores, gold)
    probability, error = METRICS["auac" if family == "activation" else "aupc"](curves), METRICS["au_mse"](curves)
    for row in range(2):
        n = int(MASK[row].sum())
        ids, x = IDS[row, :n].numpy(), scores[row, :n].numpy()
        order = np.argsort(-x) if family == "activation" else np.argsort(np.abs(x))
        with torch.no_grad():
            intact = bert.model(torch.tensor(ids[None])).logits[0].numpy()
            evidence, moved = [], []
            for k in counts(n):
                given = np.full_like(ids, UNK) if family == "activation" else ids.copy()
                given[order[:k]] = ids[order[:k]] if family == "activation" else UNK
                logits = bert.model(torch.tensor(given[None])).logits[0].numpy()
                evidence.append(np.exp(logits[gold[row]]) / np.exp(logits).sum())
                moved.append(((intact - logits) ** 2).sum())
        assert probability[row].item() == pytest.approx(trapezoid(evidence), abs=1e-10)
        assert error[row].item() == pytest.approx(trapezoid(moved), abs=1e-10)
        assert error[row] > 1e-6


def test_14_ends_are_the_text_and_nothing_of_it(bert):
    """Revealed at 1 is the text, pruned at 0 too; revealed at 0 and pruned at 1 are the same."""
    scores = torch.randn(2, 9, generator=torch.Generator().manual_seed(1)).double()
    shown, pruned = drawn(bert, "activation", scores), drawn(bert, "pruning", scores)
    assert torch.equal(shown.logits[:, -1], shown.intact_logits)
    assert torch.equal(pruned.squared_errors[:, 0], torch.zeros(2))
    assert torch.equal(pruned.logits[:, -1], shown.logits[:, 0])
    assert not torch.allclose(shown.logits[:, 0], shown.logits[:, -1])


def test_14_levels_nest(bag_of_words):
    """Each level holds the one before it: with weights that are powers of two the sums tell which tokens are there."""
    adapter = bag_of_words.adapter
    adapter.weights = torch.zeros(20, dtype=torch.float64)
    adapter.weights[10:20] = 2.0 ** -torch.arange(2, 12)
    scores = torch.randn(2, 9, generator=torch.Generator().manual_seed(2)).double()
    for family in ("activation", "pruning"):
        p = drawn(bag_of_words, family, scores).probabilities[:, :, 1]
        present = [[round(float(value) * 2**11) for value in row] for row in p]
        steps = present if family == "activation" else [row[::-1] for row in present]
        for row in steps:
            assert all(a & b == a for a, b in pairwise(row))


@pytest.mark.parametrize("family", ["activation", "pruning"])
def test_14_of_tokens_that_score_the_same_the_earlier_comes_first(bag_of_words, family):
    p = drawn(bag_of_words, family, torch.ones(2, 9)).probabilities[0, :, 1].tolist()
    weights = (WEIGHTS[IDS[0, :7]]).tolist()
    shown = [sum(weights[:k]) for k in counts(7)]
    expected = shown if family == "activation" else [sum(weights) - s for s in shown]
    assert p == pytest.approx(expected, abs=1e-6)


def test_14_texts_together_are_texts_alone(bert):
    scores = torch.randn(2, 9, generator=torch.Generator().manual_seed(3)).double()
    together = drawn(bert, "activation", scores)
    for row, n in ((0, 7), (1, 9)):
        request = CURVES["activation"].request(scores[row : row + 1, :n], ())
        alone = run_curves(bert, Inputs.of(IDS[row : row + 1, :n]), {"": request}, target=1)[""]
        torch.testing.assert_close(alone.logits[0], together.logits[row], rtol=0, atol=1e-12)


def test_relevance_that_is_turned_around_is_worse(bag_of_words):
    scores = WEIGHTS[IDS] * MASK
    good, bad = (drawn(bag_of_words, "activation", s) for s in (scores, -scores))
    assert (METRICS["auac"](good) > METRICS["auac"](bad) + 0.02).all()


def test_the_unknown_token_is_put_in_place_unless_another_operator_is_asked_for(bag_of_words):
    assert drawn(bag_of_words, "activation", WEIGHTS[IDS]).operator == "unk"
    assert drawn(bag_of_words, "pruning", WEIGHTS[IDS], operator="pad").operator == "pad"
    assert CURVES["activation"].levels == CURVES["pruning"].levels == FRACTIONS
    assert FRACTIONS[0] == 0
    assert FRACTIONS[-1] == 1


def test_curves_without_squared_errors_are_refused():
    x = torch.zeros(1, 11, 1)
    kept = Curves(x[..., 0], x[..., 0], x, x, x[:, 0], x[:, 0], torch.zeros(1).long())
    with pytest.raises(InputError, match="kept without their squared errors"):
        METRICS["au_mse"](kept)


def test_conservation_error_is_relative_and_undefined_where_nothing_is_explained():
    explained, relevance = torch.tensor([2.0, -4.0, 0.0, 1.0]), torch.tensor([1.0, -4.0, 3.0, -1.0])
    found = evaluate("conservation_error", relevance=relevance, explained=explained)
    assert found.tolist()[:2] == [0.5, 0]
    assert found.isnan().tolist() == [False, False, True, False]
    assert found[3] == 2
