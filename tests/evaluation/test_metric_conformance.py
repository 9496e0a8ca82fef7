"""Every metric passes the kit, and the kit finds the mistakes that metrics of other libraries are known for."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest
import torch
from plugin_package import write_package

from attribution import InputError
from evaluation import METRICS, Metric
from evaluation.conformance import LENGTHS, Case, check_metric
from evaluation.faithfulness import probability_drops, target_values
from evaluation.plugins import GROUP, ORIGINS, load_plugins

# What an additive model cannot tell: each token moves it by its weight, in whatever order it comes; how sure it is says
# nothing of what; and the kit's answers have nothing to do with its weights.
NO_DIRECTION = {"monotonicity", "comprehensiveness_entropy", "sufficiency_entropy", "answer_recall", "blank_out"}
WORDS = (torch.arange(11) > 0) & (torch.arange(11) <= torch.tensor(LENGTHS)[:, None])


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_conforms(metric):
    given = {
        "relevance": torch.arange(8.0), "explained": torch.arange(8.0).flip(0),
        "cues": torch.arange(11).expand(8, 11) == 2, "importance": torch.arange(88.0).view(8, 11) % 7, "words": WORDS,
    }  # fmt: skip
    assert check_metric(metric, direction=metric not in NO_DIRECTION, given=given) == []


def of_curves(compute, **about):
    told = {"formula": "f", "higher_is_better": True, "range": (-1, 1), "source": "a test", "needs": ("curves",)}
    return Metric("mine", compute=compute, curve="aopc", **{**told, **about})


def constant(curves):
    """Quantus' Monotonicity with a constant baseline writes the baseline over the baseline: always true."""
    return torch.ones(len(curves.counts), dtype=torch.float64)


def running_minimum(curves):
    """The envelope of transformer-contributions' AUPC: not wrong in shape, but not the mean."""
    return probability_drops(curves).cummax(1).values.mean(1)


def first_batch_only(curves):
    """Quantus' SensitivityN and ROAD: the first example decides for all."""
    return probability_drops(curves).mean(1)[:1].expand(len(curves.counts))


def dropped(curves):
    """OpenXAI: examples without a value disappear."""
    found = probability_drops(curves).mean(1)
    return found[~found.isnan()]


def filled(curves):
    return probability_drops(curves).mean(1).nan_to_num(0)


def normalised_in_place(scores, tokens):
    """Ferret divides the caller's scores."""
    scores /= scores.abs().sum(1, keepdim=True)
    return scores.abs().amax(1).double()


def batch_normalised(curves):
    found = probability_drops(curves).mean(1)
    return found / found.nan_to_num(0).abs().max()


def only_positive(scores, curves):
    """Ferret's AOPC: thresholds that take no further positive score do not count, so signs decide, not the order."""
    steps = (scores > 0.04).sum(1).clamp(1, 10)
    drops = probability_drops(curves)
    return torch.stack([row[:n].mean() for row, n in zip(drops, steps, strict=True)])


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (of_curves(constant), "does not tell a right explanation from its opposite"),
        (of_curves(first_batch_only), "gives other values alone"),
        (of_curves(dropped), "returns shape"),
        (of_curves(filled), "not NaN"),
        (of_curves(batch_normalised), "gives other values alone"),
        (of_curves(lambda curves: -probability_drops(curves).mean(1)), "does not tell"),
        (of_curves(lambda curves: 3 * probability_drops(curves).sum(1)), "outside of its range"),
        (of_curves(lambda curves: [0.0] * 8), "raises AttributeError"),
        (of_curves(probability_drops, needs=("curves", "weather")), "needs weather, but computes from curves"),
        (of_curves(probability_drops, range=(1, 1), formula=""), "states no formula"),
        (of_curves(normalised_in_place, needs=("scores", "tokens"), category="complexity"), "changes the scores"),
        (of_curves(lambda scores, weather: scores, needs=("scores", "weather")), "weather, which the kit does not"),
    ],
    ids=[
        "vacuous", "first batch", "dropped", "filled", "batch normalised", "direction", "range", "no tensor", "needs",
        "declared", "in place", "unknown need",
    ],
)  # fmt: skip
def test_the_kit_says_what_is_wrong(metric, words):
    if metric.compute is normalised_in_place or "weather" in metric.needs:
        metric = replace(metric, curve=None)
    assert any(words in problem for problem in check_metric(metric)), check_metric(metric)


def test_a_plain_metric_of_ones_own_conforms():
    own = of_curves(lambda curves: (target_values(curves)[1][:, None] - target_values(curves)[0]).mean(1))
    assert check_metric(own) == []


def test_values_known_by_hand_are_compared():
    scores, tokens = torch.tensor([[1.0, 3.0], [0.0, 0.0]]), torch.ones(2, 2)
    right, wrong = ([0.75, math.nan], [0.75, 0.0])
    given = {"scores": scores, "tokens": tokens}
    assert check_metric("top_1_mass", cases=[Case(given, right)]) == []
    (problem,) = check_metric("top_1_mass", cases=[Case(given, wrong)])
    assert problem == "gives [0.75, nan] where [0.75, 0.0] is right"


def test_running_minima_are_found_by_a_case_of_ones_own():
    """An envelope hides that a probability recovers; no property gives it away, a value does."""
    from test_faithfulness import curves_of

    curves = curves_of([0.9], [[0.5, 0.8]])
    case = Case({"curves": curves}, [(0.4 + 0.1) / 2])
    assert check_metric(of_curves(running_minimum), cases=[case])[-1].startswith("gives [0.4]")
    assert check_metric(METRICS["aopc"], cases=[case]) == []


def test_the_same_order_has_the_same_value_whatever_the_signs():
    """Ferret's AOPC gives 0.50 and 0.697 to two explanations of the same order."""
    from evaluation import evaluate_all
    from evaluation.analytic import BagOfTokens, text_batch

    weights = torch.zeros(22, dtype=torch.float64)
    weights[2], weights[12:] = 0.1, torch.arange(1, 11) / 100
    inputs = text_batch([list(range(12, 22))])
    one_positive = torch.full(inputs.shape, -1.0) + inputs.input_ids / 100
    one_positive[0, 10] = 1
    all_positive = one_positive + 2
    asked = [m.id for m in METRICS.values() if m.prepared and not m.tasks and m.id != "monotonicity_correlation"]
    ranked = [metric for metric in asked if METRICS[metric].curve or metric in ("tau_loo", "delta_auc")]
    ranked = [metric for metric in ranked if METRICS[metric].curve != "pruning"]  # that goes by |score|
    run = evaluate_all(
        BagOfTokens(weights), scores={"a": one_positive, "b": all_positive}, metrics=ranked, target=1,
        **inputs.present(),
    )  # fmt: skip
    assert {m: float(v) for m, v in run.values["a"].items()} == {m: float(v) for m, v in run.values["b"].items()}


MODULE = """
import torch
from evaluation import Metric
from evaluation.metric import register


def first(curves):
    return curves.levels[:, 0].double()


register(Metric("first_level", "level 1", True, (0, 1), "a test", ("curves",), first, curve="aopc"))


def clash():
    register(Metric("aopc", "f", True, (0, 1), "a test", ("curves",), first, curve="aopc"))


def broken():
    raise RuntimeError("no licence")
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    write_package(tmp_path, "firsts", MODULE, GROUP, "first")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    METRICS.pop("first_level", None)
    ORIGINS.clear()
    sys.modules.pop("firsts", None)


def test_an_installed_package_adds_its_metrics_by_itself(package):
    code = (
        f"import sys; sys.path.insert(0, {str(package)!r}); import evaluation.plugins as p; "
        "from evaluation import METRICS; print(METRICS['first_level'].formula, p.ORIGINS)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "level 1 {'first_level': 'firsts 1.2'}\n"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("firsts:clash", "there is a metric aopc already"),
        ("firsts:broken", "cannot be loaded: no licence"),
        ("no_such_module", "cannot be loaded: No module named 'no_such_module'"),
    ],
)
def test_a_plugin_that_is_wrong_is_named_and_changes_nothing(package, value, words):
    known = dict(METRICS)
    with pytest.raises(InputError, match=words):
        load_plugins([EntryPoint("mine", value, GROUP)])
    METRICS.pop("first_level", None)
    known.pop("first_level", None)
    assert known == dict(METRICS)
