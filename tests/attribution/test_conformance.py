"""What every method must satisfy on every model family: a new method or family is covered by registering it."""

from __future__ import annotations

import pytest
import torch
from tiny_models import TINY_MODELS, tiny_model

from attribution import METHODS, Explainer, Inputs, Target

MASK = torch.tensor([[1.0, 0, 0, 1], [0, 1, 1, 0], [0, 0, 1, 1]])
LENGTHS = (9, 5, 7)
CAST = 1e-6  # stock Llama normalises in float32 even in a float64 model; a capture does not


def rows():
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(5, 100, (1, n), generator=generator) for n in LENGTHS]


def padded(model, side):
    width = max(LENGTHS) + 2
    ids = torch.full((len(LENGTHS), width), model.config.pad_token_id)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows()):
        where = slice(0, row.shape[1]) if side == "right" else slice(width - row.shape[1], width)
        ids[i, where], mask[i, where] = row[0], 1
    return ids, mask


def spec(method):
    return {"method": method, "head_mask": MASK} if METHODS[method].needs_heads else method


@pytest.fixture(params=list(TINY_MODELS), scope="module")
def explainer(request):
    return Explainer(tiny_model(request.param))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_and_batch_change_nothing(explainer, method, side):
    ids, mask = padded(explainer.model, side)
    batch = explainer.scores_many(ids, mask, methods={"m": spec(method)})["m"]
    assert batch[mask == 0].eq(0).all()
    for i, row in enumerate(rows()):
        alone = explainer.scores_many(row, methods={"m": spec(method)})["m"][0]
        torch.testing.assert_close(batch[i][mask[i] == 1], alone, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_twice_and_in_chunks(explainer, method):
    ids, mask = padded(explainer.model, "right")
    whole = explainer.scores_many(ids, mask, methods={"m": spec(method)})["m"]
    assert torch.equal(whole, explainer.scores_many(ids, mask, methods={"m": spec(method)})["m"])
    small = Explainer(explainer.model, max_tokens=ids.shape[1])
    torch.testing.assert_close(small.scores_many(ids, mask, methods={"m": spec(method)})["m"], whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", TINY_MODELS)
def test_single_precision_is_close(name, method):
    scores = {}
    for dtype in (torch.float64, torch.float32):
        explainer = Explainer(tiny_model(name, dtype))
        ids, mask = padded(explainer.model, "right")
        target = "span" if explainer.adapter.is_qa else 0
        scores[dtype] = explainer.scores_many(ids, mask, methods={"m": spec(method)}, target=target)["m"]
        assert scores[dtype].dtype == dtype or METHODS[method].control
    exact = scores[torch.float64]
    scale = exact.abs().max().clamp(min=1e-3)
    assert ((scores[torch.float32] - exact).abs().max() / scale).item() < 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_several_targets_are_the_single_ones(explainer, method):
    ids, mask = padded(explainer.model, "right")
    targets = ["start", "end"] if explainer.adapter.is_qa else [0, 1]
    together = explainer.scores_many(ids, mask, methods={"m": spec(method)}, target=targets)["m"]
    single = [explainer.scores_many(ids, mask, methods={"m": spec(method)}, target=t)["m"] for t in targets]
    assert torch.equal(together, torch.stack(single, 1))
    if METHODS[method].class_blind and not explainer.adapter.is_qa:
        assert torch.equal(together[:, 0], together[:, 1])
    elif not explainer.adapter.is_qa:
        assert not torch.equal(together[:, 0], together[:, 1])


@pytest.mark.parametrize("method", [m for m in METHODS if not METHODS[m].signed])
def test_unsigned_methods_are_not_negative(explainer, method):
    ids, mask = padded(explainer.model, "right")
    assert (explainer.scores_many(ids, mask, methods={"m": spec(method)})["m"] >= 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_sdpa_and_eager_models_get_the_same(method):
    scores = []
    for implementation in ("eager", "sdpa"):
        model = tiny_model("bert")
        model.set_attn_implementation(implementation)
        ids, mask = padded(model, "right")
        scores.append(Explainer(model).scores_many(ids, mask, methods={"m": spec(method)}, target=1)["m"])
    torch.testing.assert_close(*scores, rtol=0, atol=1e-12 if METHODS[method].asks else 0)


def test_tensor_and_contrast_targets(explainer):
    if explainer.adapter.is_qa:
        pytest.skip("classes are a matter of classifiers")
    ids, mask = padded(explainer.model, "right")
    per_row = torch.tensor([1, 0, 1])
    mixed = explainer.scores(ids, mask, method="attcat", target=per_row)
    single = explainer.scores(ids, mask, method="attcat", target=[0, 1])
    torch.testing.assert_close(mixed, single[torch.arange(3), per_row], rtol=0, atol=1e-12)
    contrast = explainer.scores(ids, mask, method="attcat", target=Target("class", index=1, contrast=0))
    torch.testing.assert_close(contrast, single[:, 1] - single[:, 0], rtol=0, atol=CAST)
    logits = explainer.adapter.logits(Inputs.of(ids, mask))
    assert torch.equal(
        explainer.scores(ids, mask, method="attcat", target="runner_up"),
        explainer.scores(ids, mask, method="attcat", target=logits.argmin(1).clone()),
    )


def test_probability_gradients_are_those_of_the_softmax(explainer):
    if explainer.adapter.is_qa:
        pytest.skip("covered by the seeds of classifiers")
    ids, mask = padded(explainer.model, "right")
    p = explainer.adapter.logits(Inputs.of(ids, mask)).softmax(1).clone()
    logit = explainer.scores(ids, mask, method="attcat", target=[0, 1])
    probability = explainer.scores(ids, mask, method="attcat", target=1, output="probability")
    expected = (p[:, 1] * p[:, 0])[:, None] * (logit[:, 1] - logit[:, 0])
    torch.testing.assert_close(probability, expected, rtol=0, atol=CAST)
