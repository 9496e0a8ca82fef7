"""Curves against closed forms and against loops over one text and one level at a time."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch

from attribution import Explainer, Target
from attribution.errors import InputError
from attribution.model.inputs import Inputs
from evaluation import (
    ERASER_LEVELS,
    METRICS,
    CurveRequest,
    paper_counts,
    perturbation_curves,
    perturbation_curves_many,
    run_curves,
)
from evaluation.levels import level_counts

CLS, SEP, PAD, UNK, MASK = 2, 3, 0, 1, 4
WORDS = [12, 19, 10, 16, 14]  # weights 0.03, 0.10, 0.01, 0.07, 0.05
INTACT = 0.05 + 0.26


def one_text(words=WORDS):
    ids = torch.tensor([[CLS, *words, SEP]])
    return ids, torch.ones_like(ids), ids.double()  # a word's id is its importance


@pytest.mark.parametrize("operator", ["mask", "unk", "pad", "delete", None])
def test_linear_model_in_closed_form(bag_of_words, operator):
    ids, mask, scores = one_text()
    curves = perturbation_curves(bag_of_words, ids, mask, scores, target=1, levels=[1, 2, 3, 4, 5], operator=operator)
    left = INTACT - torch.tensor([0.10, 0.17, 0.22, 0.25, 0.26], dtype=torch.float64)
    torch.testing.assert_close(curves.probabilities[0, :, 1], left)
    torch.testing.assert_close(curves.probabilities[0, :, 0], 1 - left)
    assert float(curves.intact_probabilities[0, 1]) == pytest.approx(INTACT)
    assert curves.counts.tolist() == [[1, 2, 3, 4, 5]]
    assert curves.levels.tolist()[0] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert float(METRICS["aopc"](curves)) == pytest.approx((0.10 + 0.17 + 0.22 + 0.25 + 0.26) / 5)


def test_least_relevant_first_and_keep(bag_of_words):
    ids, mask, scores = one_text()
    options = {"target": 1, "levels": [1, 2, 3]}
    least = perturbation_curves(bag_of_words, ids, mask, scores, order="least_relevant_first", **options)
    kept = perturbation_curves(bag_of_words, ids, mask, scores, keep=True, **options)
    assert least.probabilities[0, :, 1].tolist() == pytest.approx([INTACT - w for w in (0.01, 0.04, 0.09)])
    assert kept.probabilities[0, :, 1].tolist() == pytest.approx([0.05 + w for w in (0.10, 0.17, 0.22)])


def loop(adapter, ids, mask, scores, count, *, operator, order="most_relevant_first", keep=False):
    """The perturbed ids of one row, by sorting (score, position) pairs."""
    special = adapter.special_tokens(Inputs.of(ids, mask))[0].tolist()
    sign = -1 if order == "most_relevant_first" else 1
    ranked = sorted((i for i, s in enumerate(special) if not s), key=lambda i: (sign * float(scores[0, i]), i))
    touched = set(ranked[count:] if keep else ranked[:count])
    row = [int(i) for i, m in zip(ids[0], mask[0], strict=True) if m]
    first = int(mask[0].argmax())
    hit = {i - first for i in touched}
    token = {"mask": MASK, "pad": PAD, "unk": UNK}.get(operator)
    if operator == "delete":
        return [t for i, t in enumerate(row) if i not in hit]
    return [token if i in hit else t for i, t in enumerate(row)]


def tiny(model):
    model.config.mask_token_id, model.config.unk_token_id = MASK, UNK
    model.config.pad_token_id = model.config.pad_token_id or PAD
    explainer = Explainer(model)
    explainer.adapter._special_ids = torch.tensor([CLS, SEP])
    return explainer


def random_texts(lengths=(6, 15, 23), side="right", seed=0):
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths)
    ids, mask = torch.full((len(lengths), width), PAD), torch.zeros((len(lengths), width), dtype=torch.long)
    for row, n in enumerate(lengths):
        columns = slice(width - n, width) if side == "left" else slice(0, n)
        words = torch.randint(5, 100, (n - 2,), generator=generator).tolist()
        ids[row, columns], mask[row, columns] = torch.tensor([CLS, *words, SEP]), 1
    scores = torch.randint(-3, 4, ids.shape, generator=generator).double()  # many ties
    return ids, mask, scores


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    ("order", "keep"), [("most_relevant_first", False), ("least_relevant_first", False), ("most_relevant_first", True)]
)
@pytest.mark.parametrize("operator", ["mask", "pad", "unk", "delete"])
def test_equals_a_loop_on_a_transformer(bert, operator, order, keep, side):
    explainer = tiny(bert)
    ids, mask, scores = random_texts(side=side)
    curves = perturbation_curves(
        explainer, ids, mask, scores, levels=[0.1, 0.35, 1.0], operator=operator, order=order, keep=keep
    )
    for b in range(len(ids)):
        one = ids[b : b + 1], mask[b : b + 1], scores[b : b + 1]
        n = int(mask[b].sum()) - 2
        for k, q in enumerate((0.1, 0.35, 1.0)):
            count = max(1, math.ceil(round(q * n, 9)))
            row = loop(explainer.adapter, *one, count, operator=operator, order=order, keep=keep)
            with torch.no_grad():
                expected = bert(torch.tensor([row])).logits[0]
            assert int(curves.counts[b, k]) == count
            torch.testing.assert_close(curves.logits[b, k], expected, rtol=0, atol=1e-12)
            torch.testing.assert_close(curves.probabilities[b, k], expected.softmax(-1), rtol=0, atol=1e-12)


def test_every_family_with_its_default_operator(any_model):
    explainer = tiny(any_model)
    ids, mask, scores = random_texts(lengths=(6, 11))
    curves = perturbation_curves(explainer, ids, mask, scores, levels=[1, 3])
    for b, k in ((0, 0), (0, 1), (1, 0), (1, 1)):
        one = ids[b : b + 1], mask[b : b + 1], scores[b : b + 1]
        row = loop(explainer.adapter, *one, (1, 3)[k], operator=curves.operator)
        expected = explainer.adapter.logits(Inputs.of(torch.tensor([row])))[0]
        if explainer.adapter.is_generative:
            expected = expected[-1, curves.target[b]]
        elif explainer.adapter.is_qa:
            expected = expected[curves.target[b], torch.arange(2)]
        torch.testing.assert_close(curves.logits[b, k], expected, rtol=0, atol=1e-7)


def test_orders_mirror_each_other(bert):
    ids, mask, scores = random_texts()
    most = perturbation_curves(tiny(bert), ids, mask, scores, levels=[2])
    least = perturbation_curves(tiny(bert), ids, mask, -scores, levels=[2], order="least_relevant_first")
    assert torch.equal(most.logits, least.logits)


def test_keeping_the_top_perturbs_what_removing_the_bottom_does(bert):
    ids, mask, _ = random_texts()
    scores = torch.rand(ids.shape, generator=torch.Generator().manual_seed(3))  # no ties
    n = mask.sum(1) - 2
    kept = perturbation_curves(tiny(bert), ids, mask, scores, levels=torch.stack((n // 2, n // 3), 1), keep=True)
    removed = perturbation_curves(
        tiny(bert), ids, mask, scores, levels=torch.stack((n - n // 2, n - n // 3), 1), order="least_relevant_first"
    )
    assert torch.equal(kept.logits, removed.logits)


def test_levels_are_rounded_up_and_cut():
    n = torch.tensor([30, 3, 0])
    assert level_counts([0.1, 0.01, 1.0], n).tolist() == [[3, 1, 30], [1, 1, 3], [0, 0, 0]]
    assert level_counts(torch.tensor([0.1, 0.7]), torch.tensor([30, 10])).tolist() == [[3, 21], [1, 7]]
    assert level_counts([0, 2, 50], n).tolist() == [[0, 2, 30], [0, 2, 3], [0, 0, 0]]
    assert level_counts(torch.tensor([[1, 9], [2, 9], [0, 1]]), n).tolist() == [[1, 9], [2, 3], [0, 0]]
    tokens, tenths = torch.arange(1, 513), torch.arange(1, 11)
    exact = -(-tenths * tokens[:, None] // 10)
    assert torch.equal(level_counts([tenth / 10 for tenth in range(1, 11)], tokens), exact)
    assert torch.equal(level_counts(tenths.float() / 10, tokens), exact)


@pytest.mark.parametrize("levels", [[1.5], [-0.1, 0.5], [], [-1]])
def test_bad_levels(levels, bag_of_words):
    with pytest.raises(InputError, match="levels="):
        perturbation_curves(bag_of_words, *one_text(), levels=levels)


def test_counts_of_the_paper():
    assert paper_counts(torch.tensor([22, 45])).tolist() == [
        [2, 5, 7, 10, 12, 15, 17, 20, 22],
        [5, 10, 15, 20, 25, 30, 35, 40, 45],
    ]


def test_counts_of_the_paper_are_cut_to_the_perturbable_tokens(bag_of_words):
    ids, mask, scores = one_text()
    curves = perturbation_curves(bag_of_words, ids, mask, scores, levels=paper_counts(mask.sum(1)))
    assert curves.counts.tolist() == [[1, 2, 2, 3, 4, 5, 5, 5, 5]]


def test_target_is_fixed_from_the_intact_input(bert):
    explainer = tiny(bert)
    ids, mask, scores = random_texts(lengths=(9,) * 12)
    predicted = explainer.adapter.logits(Inputs.of(ids, mask)).argmax(1)
    curves = perturbation_curves(explainer, ids, mask, scores)
    assert torch.equal(curves.target, predicted)
    assert (curves.logits.argmax(-1) != predicted[:, None]).any()  # some texts change class on the way
    assert torch.equal(curves.of_target(curves.logits)[..., 0], curves.logits[torch.arange(12), :, predicted])


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (1, [1, 1, 1]),
        (torch.tensor([0, 1, 0]), [0, 1, 0]),
        (Target("class", index=1), [1, 1, 1]),
        (Target("gold", index=torch.tensor([1, 1, 0])), [1, 1, 0]),
    ],
)
def test_targets(bert, target, expected):
    curves = perturbation_curves(tiny(bert), *random_texts(), target=target, levels=[1])
    assert curves.target.tolist() == expected


@pytest.mark.parametrize("target", [7, torch.tensor([0, -1, 0]), "span"])
def test_bad_targets(bert, target):
    with pytest.raises(InputError, match="target"):
        perturbation_curves(tiny(bert), *random_texts(), target=target, levels=[1])


@pytest.mark.parametrize("side", ["left", "right"])
def test_spans_at_the_explained_positions(bert_qa, side):
    explainer = tiny(bert_qa)
    ids, mask, scores = random_texts(side=side)
    first = mask.argmax(1)
    span = first[:, None] + torch.tensor([[1, 4], [3, 3], [0, 20]])
    curves = perturbation_curves(explainer, ids, mask, scores, target=span, levels=[1, 3])
    for b in range(3):
        one = ids[b : b + 1], mask[b : b + 1], scores[b : b + 1]
        for k, count in enumerate((0, 1, 3)):
            row = loop(explainer.adapter, *one, count, operator="mask")
            with torch.no_grad():
                out = bert_qa(torch.tensor([row]))
            got = (curves.intact_probabilities[b] if k == 0 else curves.probabilities[b, k - 1]).tolist()
            at = (span[b] - first[b]).tolist()
            both = zip((out.start_logits[0], out.end_logits[0]), at, strict=True)
            assert got == pytest.approx([float(x.softmax(0)[i]) for x, i in both], abs=1e-12)
    drop = (curves.intact_probabilities[:, None] - curves.probabilities).mean((1, 2))
    torch.testing.assert_close(METRICS["aopc"](curves), drop)


@pytest.mark.parametrize("side", ["left", "right"])
def test_predicted_span_is_the_default(bert_qa, side):
    explainer = tiny(bert_qa)
    ids, mask, scores = random_texts(side=side)
    logits = explainer.adapter.logits(Inputs.of(ids, mask)).masked_fill(~mask.bool()[..., None], -torch.inf)
    for target in (None, "span", Target("span")):
        assert torch.equal(perturbation_curves(explainer, ids, mask, scores, target=target).target, logits.argmax(1))


@pytest.mark.parametrize("target", [1, "start", Target("end"), torch.tensor([1, 2, 3])])
def test_bad_spans(bert_qa, target):
    with pytest.raises(InputError, match="target"):
        perturbation_curves(tiny(bert_qa), *random_texts(), target=target)


def test_deleting_is_refused_for_spans(bert_qa):
    with pytest.raises(InputError, match=r"operator=delete.*mask, unk, pad"):
        perturbation_curves(tiny(bert_qa), *random_texts(), operator="delete")


def test_several_families_and_methods_share_one_run(bag_of_words):
    ids, mask, scores = one_text()
    reverse = -scores
    requests = {
        ("m", "aopc"): CurveRequest(scores, [1, 2, 3, 4, 5]),
        ("r", "aopc"): CurveRequest(reverse, [1, 2, 3, 4, 5]),
        ("m", "sufficiency"): CurveRequest(scores, [1, 2, 3, 4], keep=True),
        ("m", "comprehensiveness"): CurveRequest(scores, ERASER_LEVELS),
        ("m", "delete"): CurveRequest(scores, [1, 2], operator="delete"),
    }
    curves = run_curves(bag_of_words, Inputs.of(ids, mask), requests, batch_tokens=1)
    passes = curves["m", "aopc"].passes
    assert passes.requested == 1 + 5 + 5 + 4 + 5 + 2
    # Intact; 5 + 4 removals, all gone being one text; keeping is removing in reverse; ERASER takes 1 or 3; 2 deletions.
    assert passes.distinct == 1 + 5 + 4 + 0 + 0 + 2
    assert bag_of_words.adapter.n_rows == passes.distinct
    for key, request in requests.items():
        alone = perturbation_curves(
            bag_of_words, ids, mask, request.scores, levels=request.levels, operator=request.operator, keep=request.keep
        )
        assert torch.equal(alone.logits, curves[key].logits)


def test_methods_do_not_disturb_each_other(bert):
    explainer = tiny(bert.float())
    ids, mask, scores = random_texts()
    other = torch.rand(scores.shape, generator=torch.Generator().manual_seed(5))
    for operator in ("mask", "delete"):
        both = perturbation_curves_many(explainer, ids, mask, {"a": scores, "b": other}, operator=operator)
        for label, each in (("a", scores), ("b", other)):
            alone = perturbation_curves(explainer, ids, mask, each, operator=operator)
            assert torch.equal(alone.logits, both[label].logits)


@pytest.mark.parametrize("operator", ["mask", "delete"])
def test_padding_stays_small_with_a_few_hundred_rows(bag_of_words, operator):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(8, 61, (32,), generator=generator)
    ids = torch.randint(10, 20, (32, 60), generator=generator)
    mask = (torch.arange(60) < lengths[:, None]).long()
    scores = {label: torch.rand(ids.shape, generator=generator) for label in "abc"}
    counts = paper_counts(lengths)
    curves = perturbation_curves_many(bag_of_words, ids, mask, scores, levels=counts, operator=operator)
    passes = curves["a"].passes
    assert 500 < passes.distinct < 900
    assert passes.padding <= 0.15, passes


def test_undefined_rows_are_nan_and_only_they(bag_of_words):
    ids = torch.tensor([[CLS, 12, 15, SEP], [CLS, SEP, PAD, PAD], [CLS, 11, 17, SEP]])
    mask = (ids != PAD).long()
    scores = ids.double()
    scores[2, 1] = torch.nan
    scores[0, 0] = torch.nan  # a special token's score is not read
    curves = perturbation_curves(bag_of_words, ids, mask, scores, levels=[0.5, 1.0])
    assert METRICS["aopc"](curves).isnan().tolist() == [False, True, True]
    assert METRICS["log_odds"](curves).isnan().tolist() == [False, True, True]
    assert curves.intact_logits.isfinite().all()


def test_deleting_a_text_without_special_tokens_leaves_the_last_ranked(bag_of_words):
    ids = torch.tensor([[12, 19, 14]])
    options = {"target": 1, "levels": [2, 3], "operator": "delete"}
    curves = perturbation_curves(bag_of_words, ids, None, ids.double(), **options)
    assert curves.counts.tolist() == [[2, 2]]
    assert curves.probabilities[0, :, 1].tolist() == pytest.approx([0.03, 0.03])
    kept = perturbation_curves(
        bag_of_words, ids, None, ids.double(), target=1, levels=[0], operator="delete", keep=True
    )
    assert kept.probabilities[0, :, 1].tolist() == pytest.approx([0.10])


def test_special_tokens_can_be_given(bag_of_words):
    ids, mask, scores = one_text()
    special = torch.zeros_like(ids)
    special[0, [0, 2, 6]] = 1  # the most important word is declared special
    curves = perturbation_curves(bag_of_words, ids, mask, scores, target=1, levels=[1], special_tokens_mask=special)
    assert float(curves.probabilities[0, 0, 1]) == pytest.approx(INTACT - 0.07)


def test_wrong_shape_and_order_are_refused(bag_of_words):
    ids, mask, scores = one_text()
    with pytest.raises(InputError, match=r"scores: shape \[1, 6\]"):
        perturbation_curves(bag_of_words, ids, mask, scores[:, 1:])
    with pytest.raises(InputError, match=r"order=random.*most_relevant_first"):
        perturbation_curves(bag_of_words, ids, mask, scores, order="random")


def test_random_ranking_by_enumeration(bag_of_words):
    """Over all 120 rankings of five tokens, removing k of them removes k / 5 of the evidence."""
    rankings = torch.tensor([[0, *p, 0] for p in permutations(range(5))]).double()
    ids = one_text()[0].expand(120, -1)
    curves = perturbation_curves(bag_of_words, ids, torch.ones_like(ids), rankings, target=1, levels=[1, 2, 3, 4, 5])
    assert curves.passes.distinct == 2**5
    drops = INTACT - curves.probabilities[:, :, 1].mean(0)
    assert drops.tolist() == pytest.approx([0.26 * k / 5 for k in range(1, 6)])
