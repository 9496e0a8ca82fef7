"""Occlusion, LIME and Shapley values against loops, subsets and regressions written out."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from bag_of_words import bag_of_words, contributions
from sklearn.linear_model import Ridge
from tiny_models import tiny_model

from attribution import Explainer, InputError, Inputs, Target
from attribution.methods.coalitions import Walk, every_coalition, kernel_coalitions, orders, shapley_weights
from attribution.methods.regression import ridge_regression
from attribution.methods.units import Units

PAD = 0
IDS = torch.tensor([[2, 11, 12, 13, 14, 15, 16, 17, 3], [2, 21, 22, 23, 3, 0, 0, 0, 0]])
VISIBLE = (IDS != 0).long()
SPECIAL = torch.isin(IDS, torch.tensor([0, 2, 3])).long()
COUNTS = (7, 3)
SAMPLERS = ("lime", "kernel_shap", "shapley_sampling")


@pytest.fixture(scope="module")
def bert():
    return Explainer(tiny_model("bert"))


@pytest.fixture(scope="module")
def bag():
    return bag_of_words()


def scored_many(explainer, methods, **inputs):
    given = {"special_tokens_mask": SPECIAL, "target": 1, **inputs}
    return explainer.scored_many(IDS, VISIBLE, methods=methods, **given)


def scored(explainer, method, given=None, **parameters):
    return scored_many(explainer, {"m": {"method": method, "operator": "pad", **parameters}}, **(given or {}))["m"]


def worth_of(explainer, row, absent):
    """The logit of class 1 of a row with pad ids at columns `absent`, run alone."""
    ids = IDS[row : row + 1, : int(VISIBLE[row].sum())].clone()
    ids[0, list(absent)] = PAD
    return float(explainer.adapter.logits(Inputs.of(ids))[0, 1])


def subsets(n):
    return [s for size in range(n + 1) for s in itertools.combinations(range(n), size)]


@pytest.fixture(scope="module")
def values(bert):
    """Worth of every subset of units kept, for each row: {row: {kept units: value}}."""
    return {
        row: {kept: worth_of(bert, row, [u + 1 for u in range(n) if u not in kept]) for kept in subsets(n)}
        for row, n in enumerate(COUNTS)
    }


def shapley(value, n):
    """By the definition: the mean over all orders, as weights of subsets."""
    found = np.zeros(n)
    for kept, unit in itertools.product(value, range(n)):
        if unit not in kept:
            weight = math.factorial(len(kept)) * math.factorial(n - len(kept) - 1) / math.factorial(n)
            found[unit] += weight * (value[tuple(sorted((*kept, unit)))] - value[kept])
    return found


def of_units(scores, row):
    return scores[row, 1 : 1 + COUNTS[row]].numpy()


# --- occlusion -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (3, 1), (3, 2), (2, 2), (5, 3), (9, 1)])
def test_occlusion_is_the_mean_over_the_windows_that_hold_a_token(bert, window, stride):
    found = scored(bert, "occlusion", window=window, stride=stride)
    for row, n in enumerate(COUNTS):
        starts = range(0, max(0, math.ceil((n - window) / stride)) * stride + 1, stride)
        total, covered, intact = np.zeros(n), np.zeros(n), worth_of(bert, row, [])
        for start in starts:
            inside = [u for u in range(start, start + window) if u < n]
            total[inside] += intact - worth_of(bert, row, [u + 1 for u in inside])
            covered[inside] += 1
        assert of_units(found.scores, row) == pytest.approx(total / covered, abs=1e-10)
        assert found.facts["forwards"][row] == 1 + len(starts)
        assert float(found.facts["value"][row]) == pytest.approx(intact, abs=1e-10)


def test_occlusion_puts_the_models_own_padding_in():
    """Id 0 is the start of the text in RoBERTa's vocabulary, which peers put in where they mean nothing."""
    explainer = Explainer(tiny_model("roberta"))
    ids = IDS + 10 * VISIBLE
    found = explainer.scores(ids[:1], method="occlusion", operator="pad", target=1, special_tokens_mask=SPECIAL[:1])
    changed = ids[:1].clone()
    changed[0, 1] = explainer.model.config.pad_token_id
    assert explainer.model.config.pad_token_id == 1
    logits = [explainer.adapter.logits(Inputs.of(x))[0, 1] for x in (ids[:1], changed)]
    assert found[0, 1] == pytest.approx(float(logits[0] - logits[1]), abs=1e-10)


# --- Shapley values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["kernel_shap", "shapley_sampling"])
def test_few_units_have_exact_shapley_values(bert, values, method):
    found = scored(bert, method, n_samples=128)
    for row, n in enumerate(COUNTS):
        assert of_units(found.scores, row) == pytest.approx(shapley(values[row], n), abs=1e-10)
        assert found.facts["forwards"][row] == 2**n
    assert found.facts["completeness_error"].abs().max() < 1e-10


@pytest.mark.parametrize("method", ["kernel_shap", "shapley_sampling"])
def test_samples_converge_to_shapley_values(bert, values, method):
    """Means over seeds are within their standard error, and single runs within the errors measured elsewhere."""
    exact = shapley(values[0], COUNTS[0])
    span = np.ptp(exact)
    runs = {seed: {"method": method, "n_samples": 100, "operator": "pad", "seed": seed} for seed in range(60)}
    found = [of_units(each.scores, 0) for each in scored_many(bert, runs).values()]
    error = np.std(found, axis=0, ddof=1) / math.sqrt(len(found))
    bias = 0.01 * span if method == "kernel_shap" else 0  # of a ratio of means
    assert (np.abs(np.mean(found, axis=0) - exact) < 3 * error + bias).all()
    assert np.median([np.abs(each - exact).max() for each in found]) < 0.05 * span
    assert np.ptp([each[0] for each in found]) > 0


LONG = torch.tensor([[2, *range(11, 20), 3]])  # nine tokens, 512 coalitions


@pytest.mark.parametrize("method", ["kernel_shap", "shapley_sampling"])
def test_four_times_the_samples_halve_the_error(bert, method):
    def spread(n_samples):
        runs = {str(seed): {"method": method, "n_samples": n_samples, "seed": seed} for seed in range(60)}
        given = {"target": 1, "special_tokens_mask": torch.isin(LONG, torch.tensor([2, 3])).long()}
        found = torch.stack([each[0, 1:10] for each in bert.scores_many(LONG, methods=runs, **given).values()])
        return float(found.std(0).square().mean().sqrt())

    assert 1.6 < spread(64) / spread(256) < 2.5  # 8 and 32 orders, an even number of them


def test_exact_shapley_values_are_linear_and_symmetric(bert, bag):
    """Of a difference of classes the difference; tokens that are worth the same in every company get the same."""
    one, other = (scored(bert, "kernel_shap", {"target": label}, n_samples=128).scores for label in (1, 0))
    contrast = scored(bert, "kernel_shap", {"target": Target("class", index=1, contrast=0)}, n_samples=128).scores
    torch.testing.assert_close(contrast, one - other, rtol=0, atol=1e-10)
    ids = torch.tensor([[2, 11, 12, 11, 13, 3]])
    nonlinear = {"target": 1, "output": "probability", "special_tokens_mask": torch.isin(ids, torch.tensor([2, 3]))}
    found = Explainer(bag).scores(ids, method="kernel_shap", n_samples=16, operator="pad", **nonlinear)[0]
    assert found[1] == pytest.approx(float(found[3]), abs=1e-12)
    assert abs(found[1] - found[2]) > 1e-3


@pytest.mark.parametrize("n_samples", [1, 6, 13, 40])
@pytest.mark.parametrize("method", ["kernel_shap", "shapley_sampling"])
def test_shapley_values_add_up_whatever_the_budget(bert, method, n_samples):
    if method == "kernel_shap":
        n_samples += 1
    found = scored(bert, method, n_samples=n_samples)
    change = found.facts["value"] - found.facts["baseline_value"]
    torch.testing.assert_close(found.scores.sum(1), change, rtol=0, atol=1e-10)
    assert found.facts["forwards"][0] <= 2 + max(n_samples, COUNTS[0] - 1)


@pytest.mark.parametrize("method", SAMPLERS)
def test_a_linear_model_is_explained_exactly_by_few_samples(bag, method):
    """4 N samples; by a single order already where each order has it all. These are its Shapley values, too."""
    explainer = Explainer(bag)
    given = contributions(bag, IDS, 1) - contributions(bag, torch.tensor(PAD), 1)
    extra = {"ridge": 1e-9} if method == "lime" else {}
    for n_samples in (28, 6) if method == "shapley_sampling" else (28,):
        found = scored(explainer, method, n_samples=n_samples, **extra).scores
        torch.testing.assert_close(found, given * (SPECIAL == 0), rtol=0, atol=1e-6)
    for row, n in enumerate(COUNTS):
        worth = {kept: worth_of(explainer, row, [u + 1 for u in range(n) if u not in kept]) for kept in subsets(n)}
        assert of_units(found, row) == pytest.approx(shapley(worth, n), abs=1e-6)


@pytest.mark.parametrize("method", ["kernel_shap", "shapley_sampling", "occlusion"])
def test_a_token_that_is_the_baseline_adds_nothing(bert, method):
    ids = IDS.clone()
    ids[:, 2] = PAD
    given = {"methods": {"m": {"method": method, "operator": "pad"}}, "target": 1, "special_tokens_mask": SPECIAL}
    scores = bert.scores_many(ids, VISIBLE, **given)["m"]
    least = scores[0, 1:8].abs().median()
    assert scores[0, 2].abs() < (0.1 * least if method == "kernel_shap" else 1e-12)
    assert scores[1, 2].abs() < 1e-12


@pytest.mark.parametrize("unit", ["word", "sentence"])
def test_units_are_players_and_their_tokens_share(bert, unit):
    groups = torch.tensor([[-1, 0, 0, 1, 2, 2, 2, 4, -1], [-1, 1, 3, 3, -1, -1, -1, -1, -1]])
    found = scored(bert, "shapley_sampling", given={f"{unit}_ids": groups}, unit=unit, n_samples=16)
    for row, columns in ((0, [[1, 2], [3], [4, 5, 6], [7]]), (1, [[1], [2, 3]])):
        n = len(columns)
        value = {
            kept: worth_of(bert, row, [c for u in range(n) if u not in kept for c in columns[u]]) for kept in subsets(n)
        }
        for unit_columns, expected in zip(columns, shapley(value, n), strict=True):
            assert found.scores[row, unit_columns].numpy() == pytest.approx(expected / len(unit_columns), abs=1e-10)
        assert found.facts["forwards"][row] == 2**n


def test_units_that_are_not_known_are_asked_for(bert):
    with pytest.raises(InputError, match=r"unit=word needs word_ids \[B, N\]"):
        scored(bert, "occlusion", unit="word")


# --- LIME ------------------------------------------------------------------------------------------------------------


def exact_lime(value, n, weigh, mask_prob=0.3, ridge=0.01, scale=128):
    """Ridge regression over all subsets, each as probable as it is drawn."""
    kept = np.array([[u in s for u in range(n)] for s in value], float)
    chance = mask_prob ** (n - kept.sum(1)) * (1 - mask_prob) ** kept.sum(1)
    model = Ridge(alpha=ridge)
    model.fit(kept, list(value.values()), sample_weight=scale * chance * weigh(kept.mean(1)))
    return model.coef_


WEIGHTS = {
    "fraction": lambda share: share,
    "cosine": lambda share: np.exp(-((1 - np.sqrt(share)) ** 2) / (2 * 0.25**2)),
}


@pytest.mark.parametrize("similarity", WEIGHTS)
def test_few_units_have_the_exact_weighted_regression(bert, values, similarity):
    found = scored(bert, "lime", n_samples=128, similarity=similarity)
    for row, n in enumerate(COUNTS):
        expected = exact_lime(values[row], n, WEIGHTS[similarity])
        assert of_units(found.scores, row) == pytest.approx(expected, abs=1e-7)


def test_lime_converges_to_the_exact_weighted_regression(bert, values):
    exact = exact_lime(values[0], COUNTS[0], WEIGHTS["fraction"])
    runs = {seed: {"method": "lime", "n_samples": 120, "operator": "pad", "seed": seed} for seed in range(60)}
    found = [of_units(each.scores, 0) for each in scored_many(bert, runs).values()]
    error = np.std(found, axis=0, ddof=1) / math.sqrt(len(found))
    assert (np.abs(np.mean(found, axis=0) - exact) < 3 * error + 0.01 * np.ptp(exact)).all()
    assert np.median([np.abs(each - exact).max() for each in found]) < 0.05 * np.ptp(exact)


def test_padding_does_not_count_as_unchanged(bert):
    """Peers compare all ids of a padded row, which makes every weight about 1."""
    alone = bert.scores(IDS[1:, :5], method="lime", operator="pad", target=1, special_tokens_mask=SPECIAL[1:, :5])
    torch.testing.assert_close(scored(bert, "lime").scores[1:, :5], alone, rtol=0, atol=1e-10)


def test_ridge_is_that_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    kept = (torch.rand(3, 40, 6, generator=generator) < 0.7).double()
    values, weight = torch.rand(3, 40, generator=generator).double(), torch.rand(3, 40, generator=generator).double()
    found = ridge_regression(kept, values, weight, 0.7)
    for row in range(3):
        model = Ridge(alpha=0.7).fit(kept[row].numpy(), values[row].numpy(), sample_weight=weight[row].numpy())
        assert found[row].numpy() == pytest.approx(model.coef_, abs=1e-8)


# --- draws -----------------------------------------------------------------------------------------------------------


def units_of_sizes(*sizes):
    place = torch.arange(max(sizes))
    return Units(torch.stack([torch.where(place < size, place, -1) for size in sizes]))


def test_every_second_order_is_the_one_before_it_reversed():
    units = units_of_sizes(6, 4)
    drawn = orders(torch.tensor([1, 2]), units, 400)
    assert torch.equal(drawn[0].sort(-1).values, torch.arange(6).expand(400, 6))
    assert torch.equal(drawn[1, :, :4].sort(-1).values, torch.arange(4).expand(400, 4))
    assert torch.equal(drawn[0, ::2], 5 - drawn[0, 1::2])
    first = torch.bincount(drawn[0, :, 2], minlength=6) / 400
    assert (first - 1 / 6).abs().max() < 0.06


def test_kernel_coalitions_come_in_pairs_and_by_their_weights():
    units = units_of_sizes(6, 3)
    drawn = kernel_coalitions(torch.tensor([7, 8]), units, 4000)
    members = units.members[:, None]
    assert torch.equal(drawn[:, ::2] & members, ~drawn[:, 1::2] & members)
    sizes = drawn[0].sum(-1)
    expected = np.array([1 / (s * (6 - s)) for s in range(1, 6)])
    seen = torch.bincount(sizes, minlength=7)[1:6].numpy() / len(sizes)
    assert seen == pytest.approx(expected / expected.sum(), abs=0.02)
    assert drawn[0].double().mean(0).numpy() == pytest.approx(0.5, abs=1e-12)
    assert set((drawn[1] & units.members[1]).sum(-1).tolist()) == {1, 2}


def test_shapley_weights_are_the_factorials():
    units = units_of_sizes(4)
    every = every_coalition(units, 16)
    weights = shapley_weights(every.kept, units)[0]
    for number, unit in itertools.product(range(16), range(4)):
        size, inside = bin(number).count("1"), bool(number >> unit & 1)
        before = size - 1 if inside else size
        expected = math.factorial(before) * math.factorial(3 - before) / math.factorial(4) if before < 4 else 0
        assert float(weights[number, unit]) == pytest.approx(expected if inside else -expected, abs=1e-14)


def test_walks_are_whole_orders_within_the_budget():
    walk = Walk.of(torch.tensor([1, 2, 3]), units_of_sizes(6, 3, 1), 13)
    assert walk.number.tolist() == [2, 6, 13]
    assert walk.asked.sum(1).tolist() == [10, 12, 0]


@pytest.mark.parametrize("method", SAMPLERS)
def test_seeds_and_tokens_alone_decide(bert, method):
    found = scored(bert, method, n_samples=20).scores
    again = bert.scores(
        IDS[:1, :9], method=method, n_samples=20, operator="pad", target=1, special_tokens_mask=SPECIAL[:1]
    )
    torch.testing.assert_close(again, found[:1], rtol=0, atol=1e-10)
    assert (scored(bert, method, n_samples=20, seed=1).scores[0] != found[0]).any()


# --- operators and refusals ------------------------------------------------------------------------------------------


def test_hidden_tokens_stay_in_place_and_are_not_attended_to(bert):
    found = scored(bert, "occlusion", operator="attention_mask_out")
    for row, n in enumerate(COUNTS):
        length = n + 2
        for column in range(1, n + 1):
            mask = torch.ones(1, length, dtype=torch.long)
            mask[0, column] = 0
            without = bert.adapter.logits(Inputs.of(IDS[row : row + 1, :length], mask))[0, 1]
            fall = worth_of(bert, row, []) - float(without)
            assert float(found.scores[row, column]) == pytest.approx(fall, abs=1e-10)


def test_the_read_out_cannot_be_hidden(bert):
    with pytest.raises(InputError, match="first token, which is read out"):
        bert.scores(IDS, VISIBLE, method="occlusion", operator="attention_mask_out", special_tokens_mask=1 - VISIBLE)


def test_a_decoder_reads_its_start_token_where_nothing_is_left():
    explainer = Explainer(tiny_model("gpt2"))
    found = explainer.scored_many(IDS[:1], methods={"m": "kernel_shap"}, target=1)["m"]
    start = explainer.adapter.logits(Inputs.of(torch.tensor([[explainer.model.config.bos_token_id]])))[0, 1]
    assert float(found.facts["baseline_value"][0]) == pytest.approx(float(start), abs=1e-12)


def test_a_text_without_content_scores_nothing(bert):
    ids = torch.tensor([[2, 3]])
    for method in (*SAMPLERS, "occlusion", "integrated_gradients"):
        assert not bert.scores(ids, method=method, special_tokens_mask=torch.ones_like(ids)).any()


@pytest.mark.parametrize(
    ("method", "parameters", "says"),
    [
        ("occlusion", {"window": 2, "stride": 3}, "stride=3 must be at least 1 and at most window=2"),
        ("occlusion", {"unit": "phrase"}, "unit=phrase is unknown; choices: token, word, sentence"),
        ("lime", {"operator": "mask"}, "no mask token"),
        ("lime", {"operator": "drop"}, "choices: mask, delete"),
        ("lime", {"n_samples": 1}, "n_samples=1 must be at least 2"),
        ("lime", {"mask_prob": 1.0}, "mask_prob=1.0 is not between"),
        ("kernel_shap", {"n_samples": 0}, "n_samples=0 must be at least 2"),
        ("shapley_sampling", {"n_samples": 0}, "n_samples=0 must be at least 1"),
    ],
)
def test_what_cannot_be_is_named(bert, method, parameters, says):
    with pytest.raises(InputError, match=says):
        scored(bert, method, **parameters)
