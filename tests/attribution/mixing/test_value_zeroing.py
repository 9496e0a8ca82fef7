"""Value zeroing against the loop that defines it, and what must hold whatever the weights are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_distances
from tiny_models import CONFIGURATIONS, tiny_model
from torch.nn import functional as F
from zeroing_loop import IDS, MASK, exact_model, normalised_rows, outputs, zeroing_loop

from attribution import Explainer, InputError, Inputs, rollout

CAUSAL = ("gpt2", "llama", "qwen3")


@pytest.fixture(params=list(CONFIGURATIONS), scope="module")
def explainer(request):
    return Explainer(exact_model(request.param))


@pytest.fixture
def bert_explainer(bert):
    return Explainer(bert)


def zeroing(explainer, ids=IDS, mask=MASK, **parameters):
    return explainer.context_mixing(ids, mask, method="value_zeroing", **parameters)


def test_folded_form_is_the_loop(explainer):
    raw = zeroing_loop(explainer, IDS, MASK)
    assert raw.max() > 1e-3
    torch.testing.assert_close(zeroing(explainer, normalise=False), raw, rtol=0, atol=1e-12)
    torch.testing.assert_close(zeroing(explainer), normalised_rows(raw), rtol=0, atol=1e-12)


def test_one_row_is_the_row_of_the_matrix(explainer):
    whole = zeroing(explainer)
    for row in (0, 3, 6):
        alone = zeroing(explainer, rows=[row])
        torch.testing.assert_close(alone, whole[:, :, row : row + 1], rtol=0, atol=1e-12)
        torch.testing.assert_close(zeroing(explainer, rows=[row, 2])[:, :, :1], alone, rtol=0, atol=1e-12)
    own = torch.tensor([[6, 1], [4, 0]])
    expected = whole.gather(2, own[:, None, :, None].expand(-1, whole.shape[1], -1, whole.shape[3]))
    torch.testing.assert_close(zeroing(explainer, rows=own), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["gpt2_lm", "llama_lm", "bert_qa"])
def test_other_heads_mix_the_same(name):
    explainer = Explainer(exact_model(name))
    whole = zeroing(explainer)
    torch.testing.assert_close(whole, normalised_rows(zeroing_loop(explainer, IDS, MASK)), rtol=0, atol=1e-12)
    torch.testing.assert_close(zeroing(explainer, rows=[4]), whole[:, :, 4:5], rtol=0, atol=1e-12)


@pytest.mark.parametrize("rows", [None, [2, 6]])
def test_memory_changes_nothing_but_rounding(explainer, rows):
    few = [zeroing(explainer, rows=rows, memory=memory) for memory in (1, 20_000, 2**30)]
    for one in few[:2]:
        torch.testing.assert_close(one, few[2], rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_single_precision_of_rows(name):
    exact, single = Explainer(exact_model(name)), Explainer(exact_model(name).float())
    torch.testing.assert_close(zeroing(single).double(), zeroing(exact), rtol=0, atol=1e-6)


def test_padding_on_the_left(explainer):
    moved, mask = IDS.roll(2, 1), MASK.roll(2, 1)
    left = zeroing(explainer, moved[1:], mask[1:])
    right = zeroing(explainer, IDS[1:], MASK[1:])
    torch.testing.assert_close(left, right.roll((2, 2), (2, 3)), rtol=0, atol=1e-12)
    torch.testing.assert_close(zeroing(explainer, moved[1:], mask[1:], rows=[5]), left[:, :, 5:6], rtol=0, atol=1e-12)


def test_rows_are_shares(explainer):
    matrix = zeroing(explainer)
    assert (matrix >= 0).all()
    torch.testing.assert_close(matrix.sum(-1), MASK[:, None].expand(matrix.shape[:3]).double(), rtol=0, atol=1e-12)
    assert not matrix[1, :, :, 5:].any()
    if explainer.adapter.causal:
        assert not matrix.triu(1).any()
        assert torch.equal(matrix[:, :, 0, 0], torch.ones_like(matrix[:, :, 0, 0]))


def test_a_token_that_nobody_attends_to(bert_explainer):
    hidden = MASK.clone()
    hidden[0, 3] = 0
    matrix = zeroing(bert_explainer, mask=hidden, normalise=False)
    assert not matrix[0, :, :, 3].any()
    assert matrix[0, :, 2, 4].all()


def test_without_an_output_projection_nothing_is_mixed(bert):
    for layer in bert.bert.encoder.layer:
        layer.attention.output.dense.weight.data.zero_()
    for rows in (None, [1]):
        matrix = zeroing(Explainer(bert), rows=rows)
        assert torch.equal(matrix, torch.zeros_like(matrix))


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_heads_alone_are_the_loop_and_do_not_add_up(name):
    explainer = Explainer(exact_model(name))
    alone = []
    for head in range(4):
        mask = torch.zeros(3, 4)
        mask[:, head] = 1
        alone.append(zeroing(explainer, head_mask=mask, normalise=False))
        expected = zeroing_loop(explainer, IDS, MASK, heads=[head])
        torch.testing.assert_close(alone[-1], expected, rtol=0, atol=1e-12)
    together = zeroing(explainer, normalise=False)
    assert (sum(alone) - together).abs().max() > 1e-3
    torch.testing.assert_close(zeroing(explainer, head_mask=torch.ones(3, 4), normalise=False), together)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_arithmetic_of_scikit_learn(name):
    """As the authors' code has it: the diagonal of all cosine distances, in NumPy, rows divided by their sums."""
    explainer = Explainer(exact_model(name))

    def diagonal(one, other):
        pairs = zip(one.detach().numpy(), other.detach().numpy(), strict=True)
        return torch.from_numpy(np.stack([np.diag(cosine_distances(a, b)) for a, b in pairs]))

    raw = zeroing_loop(explainer, IDS, MASK, diagonal)
    torch.testing.assert_close(zeroing(explainer, normalise=False), raw, rtol=0, atol=1e-12)
    torch.testing.assert_close(zeroing(explainer), normalised_rows(raw), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_what_one_head_does_before_the_normalisation_adds_up(name):
    """Where the feed-forward layer gives nothing, a block's output moves by the sum of what its heads move it by."""
    explainer = Explainer(exact_model(name))
    for block in explainer.adapter.layers():
        (block.mlp.c_proj if name == "gpt2" else block.mlp.down_proj).weight.data.zero_()

    def moved(*heads):
        mask = torch.zeros(3, 4)
        mask[:, list(heads)] = 1
        options = {"head_mask": mask, "distance": "euclidean", "normalise": False, "final_norm": False}
        return zeroing(explainer, **options)[:, 1:].square()

    alone = moved(0) + moved(1) + moved(2)
    pairs = moved(0, 1) + moved(0, 2) + moved(1, 2)
    torch.testing.assert_close(moved(0, 1, 2), pairs - alone, rtol=0, atol=1e-12)  # |a + b + c|^2 of vectors
    assert (moved(0, 1, 2) - alone).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_definition_of_inseq(name):
    """1 - cosine similarity, lower values than 1e-5 set to 0, the last decoder layer behind the final norm."""
    explainer = Explainer(exact_model(name))
    loop = zeroing_loop(explainer, IDS, MASK, lambda one, other: 1 - F.cosine_similarity(one, other, dim=-1))
    middle = 1.001 * float(loop[loop > 0].median().detach())  # stands for 1e-5, below which none of these are
    floored = normalised_rows(loop.masked_fill(loop < middle, 0))
    assert (floored - normalised_rows(loop)).abs().max() > 1e-3
    torch.testing.assert_close(zeroing(explainer, floor=middle), floored, rtol=0, atol=1e-12)
    loop = loop.masked_fill(loop < 1e-5, 0)
    total = loop.sum(-1, keepdim=True)
    expected = loop / torch.where(total == 0, 1, total)
    torch.testing.assert_close(zeroing(explainer, floor=1e-5), expected, rtol=0, atol=1e-12)
    euclidean = zeroing_loop(explainer, IDS, MASK, lambda one, other: (one - other).norm(dim=-1))
    found = zeroing(explainer, distance="euclidean", floor=1e-5, normalise=False)
    torch.testing.assert_close(found, euclidean, rtol=0, atol=1e-12)


def test_final_norm_is_an_option_of_the_last_layer():
    explainer = Explainer(exact_model("gpt2"))
    clean, without = zeroing(explainer, normalise=False), zeroing(explainer, normalise=False, final_norm=False)
    assert torch.equal(clean[:, :-1], without[:, :-1])
    assert not torch.allclose(clean[:, -1], without[:, -1])
    explainer.model.transformer.ln_f = torch.nn.Identity()
    loop = zeroing_loop(explainer, IDS, MASK)
    torch.testing.assert_close(without, loop, rtol=0, atol=1e-12)


def test_tokens_without_positions_may_be_permuted(bert):
    bert.bert.embeddings.position_embeddings.weight.data.zero_()
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    before = zeroing(Explainer(bert), IDS[:1], MASK[:1])
    after = zeroing(Explainer(bert), IDS[:1, order], MASK[:1])
    torch.testing.assert_close(after, before[:, :, order][..., order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_eager_and_sdpa_models_give_the_same(name):
    found = []
    for implementation in ("eager", "sdpa"):
        model = tiny_model(name)
        model.set_attn_implementation(implementation)
        found.append(zeroing(Explainer(model)))
        assert model.config._attn_implementation == implementation
    assert torch.equal(*found)


@pytest.mark.parametrize("change", [lambda p: p.mul_(1.5), lambda p: setattr(p, "data", p.data * 2)])
@pytest.mark.parametrize("place", ["intermediate.dense", "attention.output.dense", "attention.output.LayerNorm"])
def test_folded_weights_follow_the_parameters(bert, place, change):
    explainer = Explainer(bert)
    before = zeroing(explainer)
    with torch.no_grad():
        change(bert.bert.encoder.layer[1].get_submodule(place).weight)
    after = zeroing(explainer)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, zeroing(Explainer(bert)), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_scores_are_a_row_of_the_rollout(name):
    explainer = Explainer(exact_model(name))
    matrix = zeroing(explainer)
    position = [6, 4] if name in CAUSAL else [0, 0]
    for layer in (None, 1):
        top = 2 if layer is None else layer
        rolled = rollout(matrix)[torch.arange(2), top, position]
        scores = explainer.scores(IDS, MASK, method="value_zeroing", layer=layer)
        torch.testing.assert_close(scores, rolled, rtol=0, atol=1e-12)
        torch.testing.assert_close(scores.sum(1), torch.ones(2).double(), rtol=0, atol=1e-12)
        alone = explainer.scores(IDS, MASK, method="value_zeroing", layer=layer, rollout=False)
        torch.testing.assert_close(alone, matrix[torch.arange(2), top, position], rtol=0, atol=1e-12)


def test_the_model_is_as_before(explainer):
    state = {name: value.clone() for name, value in explainer.model.state_dict().items()}
    before = outputs(explainer, Inputs.of(IDS, MASK))
    zeroing(explainer)
    assert all(torch.equal(value, state[name]) for name, value in explainer.model.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(before, outputs(explainer, Inputs.of(IDS, MASK)), strict=True))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in explainer.model.modules())


def test_half_precision_compares_in_single_precision():
    exact, half = Explainer(tiny_model("bert", torch.float32)), Explainer(tiny_model("bert", torch.bfloat16))
    found = zeroing(half)
    assert found.dtype == torch.float32
    assert (found - zeroing(exact)).abs().max() < 0.05


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"distance": "manhattan"}, "distance=manhattan is unknown; choices: cosine, euclidean"),
        ({"rows": [7]}, "rows=.7. are not all between 0 and 6"),
        ({"rows": torch.zeros(3, 1)}, r"rows: a list of positions or a tensor \[2, R\]"),
        ({"floors": 1}, "value_zeroing has no parameter floors"),
        ({"head_mask": torch.ones(4, 3)}, r"head_mask has shape \[4, 3\]; the model needs \[3, 4\]"),
    ],
)
def test_wrong_parameters_are_named(bert_explainer, parameters, message):
    with pytest.raises(InputError, match=message):
        zeroing(bert_explainer, **parameters)


def test_methods_without_a_matrix_are_refused(bert_explainer):
    with pytest.raises(InputError, match="method=gradcam gives no token-to-token scores; choices: value_zeroing"):
        bert_explainer.context_mixing(IDS, MASK, method="gradcam")
    with pytest.raises(InputError, match="layer=3 is not one of the model's layers 0 to 2"):
        bert_explainer.scores(IDS, MASK, method="value_zeroing", layer=3)
