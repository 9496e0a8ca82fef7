"""Identities the relevance pass must satisfy whatever the weights, numbered as in the Mask-LRP specification."""

from __future__ import annotations

import pytest
import torch
from tiny_models import tiny_model

from attribution import Explainer, InputError, Inputs
from attribution.capture import Capture, Need, trace
from attribution.relevance.node import AbsoluteWeights
from attribution.relevance.tables import CHEFER
from attribution.targets import parts

IDS = torch.tensor([[2, 17, 45, 8, 91, 33, 5, 60, 21, 3]])
MASK = torch.tensor([[1.0, 0, 0, 1], [0, 1, 1, 0], [0, 0, 1, 1]])
REFERENCE = 2e-5  # the reference printed these in float32
ALL = Need.ATTENTION_GRADIENT | Need.RELEVANCE | Need.INPUT_RELEVANCE | Need.MASKED_RELEVANCE


def capture_of(model, ids=IDS, target=1):
    adapter = Explainer(model).adapter
    run = trace(adapter, Inputs.of(ids), ALL, AbsoluteWeights())
    (part,) = parts(target, run.logits.detach(), run.visible, adapter.read_out(run.inputs))
    return Capture(run, part, ALL)


def at_block_inputs(capture, mask=None):
    gates = None if mask is None else mask[None]
    found = capture.trace.backward(CHEFER, capture.part.relevance, capture.trace.hidden, gates)
    return [relevance.sum().item() for relevance in found]


def test_1_relevance_is_conserved_at_every_block(bert):
    capture = capture_of(bert)
    assert at_block_inputs(capture) == pytest.approx([1.0] * 3, abs=1e-6)


def test_2_attention_maps_hold_half_of_their_branch(bert):
    sums = [cam.sum().item() for cam in capture_of(bert).relevance.attention]
    assert sums[::-1] == pytest.approx([0.234760, 0.416097, 0.140035], abs=REFERENCE)


@pytest.mark.parametrize(
    ("mask", "expected"),
    [(MASK, [0.742341, 0.464596, 0.326903]), (torch.zeros(3, 4), [0.530479, 0.068063, 0.015101])],
)
def test_3_a_masked_layer_loses_what_its_closed_heads_held(bert, mask, expected):
    capture = capture_of(bert)
    totals = at_block_inputs(capture, mask.double())
    assert totals[::-1] == pytest.approx(expected, abs=REFERENCE)
    cams = capture.masked_relevance(mask.double()[None]).attention
    before = [*totals[1:], 1.0]
    lost = [2 * (cams[layer][0] * (1 - mask[layer, :, None, None])).sum().item() for layer in range(3)]
    assert [b - t for b, t in zip(before, totals, strict=True)] == pytest.approx(lost, abs=1e-6)


def test_4_a_mask_of_ones_is_no_mask(bert):
    explainer = Explainer(bert)
    methods = {
        "none": "transformer_attribution",
        "ones": {"method": "mask_lrp", "head_mask": torch.ones(3, 4)},
        "default": "mask_lrp",
    }
    scores = explainer.scores_many(IDS, methods=methods, target=1)
    assert torch.equal(scores["ones"], scores["none"])
    assert torch.equal(scores["default"], scores["none"])
    capture = capture_of(bert)
    ones = capture.masked_relevance(torch.ones(1, 3, 4).double())
    assert all(torch.equal(a, b) for a, b in zip(ones.attention, capture.relevance.attention, strict=True))


def test_5_a_layers_mask_changes_only_the_maps_below_it(bert):
    capture = capture_of(bert)
    for layer in range(3):
        mask = torch.ones(1, 3, 4).double()
        mask[0, layer, :2] = 0
        cams = capture.masked_relevance(mask).attention
        same = [torch.equal(a, b) for a, b in zip(cams, capture.relevance.attention, strict=True)]
        assert same == [below >= layer for below in range(3)]


def test_5_the_first_layers_mask_changes_no_score(bert):
    mask = torch.ones(3, 4)
    mask[0] = 0
    explainer = Explainer(bert)
    masked = explainer.scores(IDS, method="mask_lrp", head_mask=mask, target=1)
    assert torch.equal(masked, explainer.scores(IDS, method="transformer_attribution", target=1))


def test_6_the_mask_leaves_logits_alone(bert):
    logits = capture_of(bert).trace.logits
    torch.testing.assert_close(logits, bert(IDS).logits, rtol=0, atol=1e-12)


def test_7_rollout_rows_sum_to_one_and_zero_maps_give_nothing(bert):
    from attribution.methods.rollout import residual_rollout_row

    maps = [torch.rand(2, 6, 6, dtype=torch.float64) for _ in range(3)]
    row = residual_rollout_row(maps, torch.tensor([0, 3]))
    torch.testing.assert_close(row.sum(1), torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-12)
    zero = residual_rollout_row([torch.zeros(1, 6, 6)] * 3, torch.tensor([2]))
    assert zero.tolist() == [[0, 0, 1, 0, 0, 0]]


def test_7_the_row_is_that_of_the_full_product():
    from attribution import rollout
    from attribution.methods.rollout import residual_rollout_row

    maps = torch.rand(2, 4, 5, 5, dtype=torch.float64)
    normal = maps + torch.eye(5)
    full = rollout(normal / normal.sum(-1, keepdim=True))[:, -1]
    row = residual_rollout_row(list(maps.unbind(1)), torch.tensor([1, 4]))
    torch.testing.assert_close(row, full[torch.arange(2), torch.tensor([1, 4])], rtol=0, atol=1e-12)


def test_7_the_row_keeps_small_maps_in_float32():
    from attribution.methods.rollout import residual_rollout_row

    maps = [1e-6 * torch.rand(1, 64, 64, dtype=torch.float64) for _ in range(12)]
    exact = residual_rollout_row(maps, torch.tensor([0]))[0, 1:]
    single = residual_rollout_row([m.float() for m in maps], torch.tensor([0]))[0, 1:]
    assert ((single - exact).abs().max() / exact.max()).item() < 1e-6


@pytest.mark.parametrize("method", ["raw_attention", "attention_rollout"])
def test_10_attention_methods_are_blind_to_the_class(bert, method):
    scores = Explainer(bert).scores(IDS, method=method, target=[0, 1])
    assert torch.equal(scores[:, 0], scores[:, 1])


def test_10_attcat_scales_with_the_logit(bert):
    before = Explainer(bert).scores(IDS, method="attcat", target=1)
    with torch.no_grad():
        bert.classifier.weight[1] *= 3
    after = Explainer(bert).scores(IDS, method="attcat", target=1)
    torch.testing.assert_close(after, 3 * before, rtol=1e-10, atol=0)


def test_question_answering_starts_at_one_token_and_receives_its_mask(bert_qa):
    explainer = Explainer(bert_qa)
    plain = explainer.scores(IDS, method="transformer_attribution", target="start")
    expected = [0.0048509710, 0.0080194697, 0.0021017843, 0.00064630911, 0.0052385489,
                0.0048032468, 0.0023793567, 0.0019023550, 0.0061927582, 0.96386516]  # fmt: skip
    torch.testing.assert_close(plain[0], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=2e-7)
    masked = explainer.scores(IDS, method="mask_lrp", head_mask=MASK, target="start")
    assert (masked - plain).abs().max() > 1e-4


def test_a_span_is_its_start_plus_its_end(bert_qa):
    explainer = Explainer(bert_qa)
    start, end, span = (
        explainer.scores(IDS, method="mask_lrp", head_mask=MASK, target=t) for t in ("start", "end", "span")
    )
    torch.testing.assert_close(span, start + end, rtol=0, atol=1e-15)


def test_an_operation_without_a_rule_is_refused_by_relevance_and_passed_by_gradients(bert):
    from attribution import UnruledOperation

    class Cubed(torch.nn.Module):
        def forward(self, x):
            return x.pow(3)

    bert.bert.encoder.layer[1].intermediate.intermediate_act_fn = Cubed()
    explainer = Explainer(bert)
    assert explainer.scores(IDS, method="gradcam", target=1).isfinite().all()
    with pytest.raises(UnruledOperation, match=r"pow at bert\.encoder\.layer\.1\.intermediate"):
        explainer.scores(IDS, method="full_lrp", target=1)


@pytest.mark.parametrize("shape", [(4, 3), (3,), (2, 3, 4)])
def test_a_head_mask_of_the_wrong_shape_is_refused(bert, shape):
    with pytest.raises(InputError, match=r"head_mask has shape .* \[3, 4\]"):
        Explainer(bert).scores(IDS, method="mask_lrp", head_mask=torch.ones(shape))


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_z_plus_needs_three_products_to_equal_four(name):
    from attribution.relevance.node import Kind, Node, Pass
    from attribution.relevance.rules import z_plus

    torch.manual_seed(len(name))
    x, w, b, relevance = torch.randn(5, 7), torch.randn(4, 7), torch.randn(4), torch.rand(5, 4)
    x, w, b, relevance = (t.double() for t in (x, w, b, relevance))
    node = Node(Kind.LINEAR, torch.nn.functional.linear, Pass(CHEFER), "linear")
    node.inputs, node.output = (x, w, b), torch.nn.functional.linear(x, w, b)
    positive, negative = x.clamp(min=0), x.clamp(max=0)
    z = positive @ w.clamp(min=0).T + negative @ w.clamp(max=0).T
    share = relevance / (z + 1e-9)
    expected = positive * (share @ w.clamp(min=0)) + negative * (share @ w.clamp(max=0))
    torch.testing.assert_close(z_plus(node, relevance)[0], expected, rtol=1e-12, atol=1e-12)


def test_z_plus_counts_rounding_error_as_nothing():
    from attribution.relevance.node import Kind, Node, Pass
    from attribution.relevance.rules import z_plus

    torch.manual_seed(0)
    x, w = 17 * torch.rand(64, 4), -torch.rand(8, 4)
    node = Node(Kind.LINEAR, torch.nn.functional.linear, Pass(CHEFER), "linear")
    node.inputs, node.output = (x, w), x @ w.T
    assert z_plus(node, torch.ones(64, 8))[0].abs().max() < 1e-5


def test_the_model_is_as_before(bert):
    bert.train()
    forward = torch.nn.LayerNorm.forward
    before = {name: value.clone() for name, value in bert.state_dict().items()}
    Explainer(bert).scores(IDS, method="mask_lrp", head_mask=MASK)
    assert bert.training
    assert all(p.requires_grad and p.grad is None for p in bert.parameters())
    assert bert.config._attn_implementation == "sdpa"
    assert torch.nn.LayerNorm.forward is forward
    assert all("forward" not in module.__dict__ for module in bert.modules())
    assert all(torch.equal(before[name], value) for name, value in bert.state_dict().items())


def test_changed_weights_are_noticed(bert):
    explainer = Explainer(bert)
    explainer.scores(IDS, method="full_lrp", target=1)
    with torch.no_grad():
        bert.bert.encoder.layer[0].output.dense.weight.mul_(-0.5)
    fresh = Explainer(bert).scores(IDS, method="full_lrp", target=1)
    assert torch.equal(explainer.scores(IDS, method="full_lrp", target=1), fresh)


def test_a_compiled_model_is_refused():
    with pytest.raises(InputError, match="compile"):
        Explainer(torch.compile(tiny_model("bert")))
