"""Entropies and divergences of all classes together, against SciPy and a loop over copies made by hand."""

from __future__ import annotations

import pytest
import torch
from scipy.special import expit
from scipy.stats import entropy
from tiny_models import tiny_model

from attribution import Explainer, InputError
from attribution.model.inputs import Inputs
from evaluation import CURVES, METRICS, Curves, run_curves

CLS, SEP, PAD, MASK = 2, 3, 0, 4
IDS = torch.tensor([[CLS, 12, 19, 10, 16, 14, SEP, PAD, PAD], [CLS, 11, 13, 15, 17, 18, 12, 19, SEP]])
LENGTHS = (7, 9)
SHARES = (1, 5, 10, 20, 50)


def explainer_of(name):
    explainer = Explainer(tiny_model(name))
    explainer.adapter.mask_id = MASK
    explainer.adapter._special_ids = torch.tensor([PAD, CLS, SEP])
    return explainer


def classes(logits):
    """Softmax as one distribution."""
    return [torch.softmax(logits, -1).tolist()]


def labels(logits):
    """One distribution for each independent label."""
    return [[p, 1 - p] for p in expit(logits.tolist()).tolist()]


@pytest.mark.parametrize(("name", "outcomes"), [("bert", classes), ("bert_multi", labels)])
@pytest.mark.parametrize("part", ["comprehensiveness", "sufficiency"])
def test_they_are_those_of_copies_made_one_at_a_time(name, outcomes, part):
    explainer = explainer_of(name)
    scores = torch.randn(IDS.shape, generator=torch.Generator().manual_seed(1)).double()
    request = CURVES[part].request(scores, (), "mask")
    curves = run_curves(explainer, Inputs.of(IDS, (IDS != PAD).long()), {"": request}, target=1)[""]
    for row, length in enumerate(LENGTHS):
        ids, words = IDS[row, :length], range(1, length - 1)
        best_first = sorted(words, key=lambda place: -float(scores[row, place]))
        intact = outcomes(explainer.model(ids[None]).logits[0])
        drops, distances = [], []
        for share in SHARES:
            k = max(1, -(-share * len(best_first) // 100))
            gone = best_first[:k] if part == "comprehensiveness" else best_first[k:]
            copy = ids.clone()
            copy[list(gone)] = MASK
            left = outcomes(explainer.model(copy[None]).logits[0])
            drops.append(sum(map(entropy, intact)) - sum(map(entropy, left)))
            distances.append(sum(entropy(after, before) for after, before in zip(left, intact, strict=True)))
        assert float(METRICS[f"{part}_entropy"](curves)[row]) == pytest.approx(sum(drops) / 5, abs=1e-10)
        assert float(METRICS[f"{part}_kl"](curves)[row]) == pytest.approx(sum(distances) / 5, abs=1e-10)
        assert distances[-1] > 1e-8, "or nothing was compared"


def test_answers_have_none():
    explainer = explainer_of("bert_qa")
    request = CURVES["comprehensiveness"].request(torch.rand(IDS.shape), (), "mask")
    curves = run_curves(explainer, Inputs.of(IDS, (IDS != PAD).long()), {"": request})[""]
    assert curves.divergences.isnan().all()
    assert curves.entropy_drops.isnan().all()
    assert METRICS["comprehensiveness_kl"].tasks == ("classification",)


def test_curves_kept_without_them_are_refused():
    x = torch.zeros(1, 5, 1)
    kept = Curves(x[..., 0], x[..., 0], x, x, x[:, 0], x[:, 0], torch.zeros(1).long())
    with pytest.raises(InputError, match="kept without their distributions"):
        METRICS["sufficiency_entropy"](kept)


@pytest.mark.parametrize(("metric", "part"), [("pgi", "comprehensiveness"), ("pgu", "sufficiency")])
def test_gaps_count_rises_and_falls_alike(metric, part):
    """A probability that rises by a tenth and one that falls by as much are two gaps, not none."""
    p = torch.tensor([[0.5, 0.6, 0.4, 0.5, 0.7]]).double()
    counts = torch.ones(1, 5)
    intact = torch.tensor([[0.5]]).double()
    curves = Curves(counts, counts / 5, p[..., None], p.log()[..., None], intact, intact.log(), torch.zeros(1).long())
    assert float(METRICS[metric](curves)) == pytest.approx((0.1 + 0.1 + 0.2) / 5)
    assert METRICS[metric].curve == part
    assert METRICS[metric].higher_is_better == (metric == "pgi")
