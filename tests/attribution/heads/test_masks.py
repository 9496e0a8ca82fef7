from __future__ import annotations

import math

import pytest
import torch

from attribution.errors import InputError
from attribution.heads import HeadScores
from attribution.heads.masks import check_spec, head_mask


@pytest.fixture
def scores() -> HeadScores:
    """A model of 3 layers x 8 heads with two positional and four syntactic heads, one of them both."""
    ranked = {"importance:gate_grad": torch.arange(24.0).view(3, 8), "next": torch.zeros(3, 8)}
    heads = {
        "importance:gate_grad": [],
        "next": [4, 5],
        "positional:-1": [0, 1],
        "syntactic:nsubj:dep->head": [1, 8, 9],
        "syntactic:obj:head->dep": [23],
    }
    return HeadScores(
        scores={role: ranked.get(role, torch.zeros(3, 8)) for role in heads},
        baseline=dict.fromkeys(heads, math.nan),
        count=dict.fromkeys(heads, 500),
        selected={role: torch.isin(torch.arange(24), torch.tensor(on)).view(3, 8) for role, on in heads.items()},
        report=dict.fromkeys(heads),
    )


def on(mask: torch.Tensor) -> list[int]:
    return mask.flatten().nonzero().squeeze(1).tolist()


@pytest.mark.parametrize(
    ("spec", "heads"),
    [
        ("positional", [0, 1]),
        ("syntactic", [1, 8, 9, 23]),
        ("both", [0, 1, 8, 9, 23]),
        ("relation(nsubj)", [1, 8, 9]),
        ("relation( obj )", [23]),
        ("role(next)", [4, 5]),
        ("role( positional:-1 )", [0, 1]),
        ("role(syntactic:nsubj:dep->head)", [1, 8, 9]),
        ("top(importance:gate_grad, 3)", [21, 22, 23]),
        ("top( importance:gate_grad ,0.25 )", list(range(18, 24))),
        ("bottom(importance:gate_grad, .125)", [0, 1, 2]),
        ("bottom(next, 2)", [0, 1]),  # of equals the first
        ("top(importance:gate_grad, 24)", list(range(24))),
        ("all", list(range(24))),
        ("none", []),
    ],
)
def test_masks_of_found_heads(scores, spec, heads):
    mask = head_mask(spec, scores)
    assert mask.shape == (3, 8)
    assert mask.dtype == torch.bool
    assert on(mask) == heads


@pytest.mark.parametrize(
    "of", ["both", "syntactic", "relation(nsubj)", "all", "none", "role(next)", "top(importance:gate_grad, 7)"]
)
def test_random_masks_have_as_many_heads_in_each_layer(scores, of):
    for seed in range(5):
        drawn = head_mask(f"random({seed}, {of})", scores)
        assert drawn.sum(1).tolist() == head_mask(of, scores).sum(1).tolist()
    assert torch.equal(head_mask("random(3)", scores), head_mask("random(3, both)", scores))


def test_random_masks_depend_on_the_seed_alone(scores):
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = head_mask("random(7)", scores)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(head_mask("random(7)", scores), first)
    assert len({tuple(on(head_mask(f"random({seed})", scores))) for seed in range(10)}) > 5


def test_random_masks_are_uniform_within_a_layer(scores):
    drawn = torch.stack([head_mask(f"random({seed})", scores) for seed in range(800)]).double().mean(0)
    expected = torch.tensor([2 / 8, 2 / 8, 1 / 8]).double()[:, None].expand(3, 8)
    assert (drawn - expected).abs().max() < 4.5 * math.sqrt(0.25 * 0.75 / 800)


@pytest.mark.parametrize(("rate", "extra"), [("0", 0), ("0.1", 2), (".5", 10), ("0.75", 14), ("1", 19), ("1.0", 19)])
def test_corrupted_masks_add_a_share_of_the_other_heads(scores, rate, extra):
    mask = head_mask(f"corrupted({rate}, 0)", scores)
    assert set(on(mask)) >= {0, 1, 8, 9, 23}
    assert len(on(mask)) == 5 + extra  # of the 19 others; halves go to the even number


def test_corrupted_masks_take_a_seed_and_a_base(scores):
    assert not torch.equal(head_mask("corrupted(0.3, 0)", scores), head_mask("corrupted(0.3, 1)", scores))
    mask = head_mask("corrupted(0.5,1,relation(obj))", scores)
    assert 23 in on(mask)
    assert len(on(mask)) == 1 + 12


@pytest.mark.parametrize(
    "spec",
    [
        "syntax",
        "",
        "both, all",
        "relation()",
        "relation(a, b)",
        "random",
        "random()",
        "random(1",
        "random(-1)",
        "random(1.5)",
        "random(1, random(2))",
        "corrupted(0.1)",
        "corrupted(1.5, 0)",
        "corrupted(0, 0, x)",
        "role()",
        "top(next)",
        "top(next, 0)",
        "top(next, -1)",
        "top(next, 1.5)",
        "top(next, 0.2",
    ],
)
def test_misspelled_masks_name_the_choices(scores, spec):
    assert "Choose one of: syntactic, positional, both" in (check_spec(spec) or "")
    with pytest.raises(InputError, match="is not a head mask"):
        head_mask(spec, scores)


def test_well_spelled_masks_pass_the_check():
    for spec in ("both", " all ", "relation(nsubj:pass)", "random(0,syntactic)", "corrupted(.25, 3, relation(obj))"):
        assert check_spec(spec) is None


def test_heads_that_were_not_looked_for_are_named(scores):
    with pytest.raises(InputError, match=r"heads=syntactic:amod .* syntactic:nsubj"):
        head_mask("relation(amod)", scores)


def test_heads_without_such_scores_have_no_top(scores):
    with pytest.raises(
        InputError, match=r"entropy is not scored in these heads. They have: importance:gate_grad, next"
    ):
        head_mask("top(entropy, 3)", scores)
    with pytest.raises(InputError, match=r"25 heads of next are asked for, but there are 24"):
        head_mask("top(next, 25)", scores)
    scores.scores["next"][0, 0] = math.nan
    with pytest.raises(InputError, match=r"the scores of next are not finite"):
        head_mask("top(next, 2)", scores)
