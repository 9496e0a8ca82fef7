"""Importances of heads against finite differences, pruned models, closed forms and slow loops."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from importance_inputs import batch, split
from tiny_models import tiny_model

from attribution import Explainer, InputError
from attribution.heads import IMPORTANCES, HeadScores, head_importance, head_importances
from attribution.heads.gradient_importance import gate_gradient
from attribution.heads.head_pass import head_pass
from attribution.heads.importance import HeadValues, as_scores, head_values, importance_of, needs_all_texts
from attribution.heads.outputs import gated, head_outputs
from attribution.heads.rows import rows_of

FAMILIES = ("bert", "roberta", "distilbert", "albert", "electra", "deberta", "modernbert", "gpt2", "llama", "qwen3")


def losses(explainer, given, gates):
    """[B] losses of the labels with gates on the heads, from the model's own classifier."""
    with torch.no_grad(), head_outputs(explainer.adapter, gated(gates)):
        known = {name: value for name, value in given.items() if name != "labels"}
        logits = explainer.model(**known).logits
    return F.cross_entropy(logits, given["labels"], reduction="none")


def only_pass(explainer, given, **options):
    (rows,) = rows_of(explainer, [given])
    return head_pass(rows, **options)


# The others rotate or normalise in single precision: too coarse for differences of 1e-5.
@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "albert", "electra", "deberta", "gpt2"])
def test_gate_gradient_is_the_signed_derivative_of_each_loss(name):
    explainer, given = Explainer(tiny_model(name)), batch()
    found = gate_gradient(only_pass(explainer, given))
    step = 1e-5
    for layer, head in [(0, 1), (2, 3)]:
        gates = torch.ones(3, 4, dtype=torch.float64)
        gates[layer, head] = 1 + step
        above = losses(explainer, given, gates)
        gates[layer, head] = 1 - step
        slope = (above - losses(explainer, given, gates)) / (2 * step)
        torch.testing.assert_close(found[:, layer, head], slope, rtol=1e-5, atol=1e-7)
    assert (found < 0).any()
    assert (found > 0).any()


@pytest.mark.parametrize("name", FAMILIES)
def test_gate_gradient_is_the_gradient_at_gates(name):
    explainer, given = Explainer(tiny_model(name)), batch()
    gates = torch.ones(5, 3, 4, dtype=torch.float64, requires_grad=True)
    with head_outputs(explainer.adapter, gated(gates)):
        logits = explainer.model(given["input_ids"], attention_mask=given["attention_mask"]).logits
    F.cross_entropy(logits, given["labels"], reduction="sum").backward()
    # These compute part of their own attention in single precision.
    close = 1e-6 if name in ("modernbert", "deberta") else 1e-10
    torch.testing.assert_close(gate_gradient(only_pass(explainer, given)), gates.grad, rtol=0, atol=close)
    expected = gates.grad.abs().mean(0)
    torch.testing.assert_close(head_importance(explainer, [given], method="gate_grad"), expected, rtol=0, atol=close)


def test_last_layer_of_a_first_token_classifier_acts_at_that_token_alone(bert):
    found = only_pass(Explainer(bert), batch()).contributions
    assert found[:, -1, :, 1:].abs().max() == 0
    assert found[:, -1, :, 0].abs().min() > 0
    assert found[:, 0, :, 1:].abs().max() > 0


def slow_taylor(explainer, given, weights_of):
    """[B, L, H] by one backward for each row; `weights_of(model, layer, head)` gives (parameter, index) pairs."""
    model, found = explainer.model, torch.zeros(len(given["labels"]), 3, 4, dtype=torch.float64)
    for row in range(len(given["labels"])):
        model.zero_grad()
        known = {name: value[row : row + 1] for name, value in given.items()}
        model(**known).loss.backward()
        for layer in range(3):
            for head in range(4):
                pairs = weights_of(model, layer, head)
                found[row, layer, head] = sum(((p * p.grad)[index] ** 2).sum() for p, index in pairs).item()
    return found


def bert_weights(model, layer, head):
    part = slice(8 * head, 8 * head + 8)
    attention = model.bert.encoder.layer[layer].attention
    inward = [getattr(attention.self, name) for name in ("query", "key", "value")]
    return [(p, part) for each in inward for p in (each.weight, each.bias)] + [
        (attention.output.dense.weight, (slice(None), part))
    ]


def gpt2_weights(model, layer, head):
    attention = model.transformer.h[layer].attn
    thirds = [slice(32 * third + 8 * head, 32 * third + 8 * head + 8) for third in range(3)]
    inward = [(attention.c_attn.weight, (slice(None), part)) for part in thirds]
    return [*inward, *((attention.c_attn.bias, part) for part in thirds), (attention.c_proj.weight, thirds[0])]


def llama_weights(model, layer, head):
    attention, part, group = model.model.layers[layer].self_attn, slice(8 * head, 8 * head + 8), head // 2
    shared = slice(8 * group, 8 * group + 8)
    return [
        (attention.q_proj.weight, part),
        (attention.k_proj.weight, shared),
        (attention.v_proj.weight, shared),
        (attention.o_proj.weight, (slice(None), part)),
    ]


WEIGHTS = {"bert": bert_weights, "gpt2": gpt2_weights, "llama": llama_weights}


@pytest.mark.parametrize("name", WEIGHTS)
def test_taylor_of_parameters_is_that_of_one_backward_for_each_row(name):
    explainer, given = Explainer(tiny_model(name)), batch(3)
    found = head_importances(explainer, [given], methods=["taylor_params"])["taylor_params"]
    expected = slow_taylor(explainer, given, WEIGHTS[name])
    torch.testing.assert_close(found.per_example, expected, rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(found.scores, expected.mean(0), rtol=1e-9, atol=1e-14)


def test_weights_used_twice_in_a_layer_are_refused():
    with pytest.raises(InputError, match=r"taylor_params: deberta-v2 .* choose gate_grad"):
        head_importance(Explainer(tiny_model("deberta")), [batch()], method="taylor_params")


def pruned_losses(model, given, layer, head):
    """[B] losses of a copy whose head is cut out: rows of query, key and value, columns of the output."""
    smaller = copy.deepcopy(model)
    attention = smaller.bert.encoder.layer[layer].attention
    keep = [i for i in range(32) if i // 8 != head]
    for each in (attention.self.query, attention.self.key, attention.self.value):
        each.weight, each.bias = (torch.nn.Parameter(p.data[keep]) for p in (each.weight, each.bias))
    dense = attention.output.dense
    dense.weight = torch.nn.Parameter(dense.weight.data[:, keep])
    attention.self.num_attention_heads, attention.self.all_head_size = 3, 24
    with torch.no_grad():
        logits = smaller(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).logits
    return F.cross_entropy(logits, given["labels"], reduction="none")


def test_leaving_a_head_out_is_pruning_it(bert):
    explainer, given = Explainer(bert), batch()
    found = head_importances(explainer, [given], methods=["leave_one_out"])["leave_one_out"].per_example
    whole = losses(explainer, given, torch.ones(3, 4))
    for layer in range(3):
        for head in range(4):
            expected = pruned_losses(bert, given, layer, head) - whole
            torch.testing.assert_close(found[:, layer, head], expected, rtol=0, atol=1e-12)
    assert (found < 0).any()


PER_EXAMPLE = [
    *({"method": name} for name in IMPORTANCES if name not in ("gate_grad_batch", "attention_attribution")),
    {"method": "attention_attribution", "steps": 2},
    *({"method": "leave_one_out", "ablation": kind} for kind in ("mean", "resample")),
]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("method", PER_EXAMPLE)
def test_neither_batches_nor_order_nor_padding_matter(bert, method, side):
    explainer, given = Explainer(bert), batch()
    whole = head_importances(explainer, [given], methods={"m": method})["m"]
    turned = {name: value.flip(0) for name, value in given.items()}
    if side == "left":
        roll = [int(n) for n in 9 - turned["attention_mask"].sum(1)]
        for name in ("input_ids", "attention_mask"):
            turned[name] = torch.stack([row.roll(n) for row, n in zip(turned[name], roll, strict=True)])
    found = head_importances(explainer, split(turned, 2, 1, 2), methods={"m": method})["m"]
    torch.testing.assert_close(found.scores, whole.scores, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.per_example, whole.per_example.flip(0), rtol=1e-9, atol=1e-12)


def test_form_of_run_bertology_depends_on_the_batches(bert):
    explainer, given = Explainer(bert), batch()
    one = head_importance(explainer, [given], method="gate_grad_batch")
    other = head_importance(explainer, split(given, 1, 4), method="gate_grad_batch")
    assert (one - other).abs().max() > 1e-3
    # Passes of one row do not change what the batch was.
    small = Explainer(bert, max_tokens=9)
    torch.testing.assert_close(head_importance(small, [given], method="gate_grad_batch"), one, rtol=0, atol=1e-12)


def test_forms_of_the_gate_gradient_by_hand(bert):
    explainer, given = Explainer(bert), batch()
    found = head_importances(explainer, split(given, 3, 2), methods=["gate_grad_token", "gate_grad_batch"])
    each = only_pass(explainer, given).contributions  # [B, L, H, N]
    tokens = given["attention_mask"].sum()
    raw = each.abs().sum((0, 3)) / tokens
    raw[-1] *= tokens / 5  # the last layer by examples, since only its first token is read
    torch.testing.assert_close(found["gate_grad_token"].scores, raw / raw.norm(dim=1, keepdim=True))
    signed = each.sum(3)
    raw = (signed[:3].sum(0).abs() + signed[3:].sum(0).abs()) / tokens
    raw = raw / raw.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found["gate_grad_batch"].scores, (raw - raw.min()) / (raw.max() - raw.min()))


def test_means_and_other_examples_replace_a_head(bert):
    explainer, given = Explainer(bert), batch(3)
    methods = {kind: {"method": "leave_one_out", "ablation": kind} for kind in ("mean", "resample")}
    found = head_importances(explainer, [given], methods=methods)
    heads = [each.detach() for each in only_pass(explainer, given).heads]
    lengths, whole = given["attention_mask"].sum(1).tolist(), losses(explainer, given, torch.ones(3, 4))
    layer, head = 1, 2
    tokens = torch.cat([heads[layer][row, :n, head] for row, n in enumerate(lengths)])

    def change(values):
        def edit(at, outputs):
            changed = outputs.clone()
            if at == layer:
                changed[:, :, head] = values
            return changed

        with torch.no_grad(), head_outputs(explainer.adapter, edit):
            logits = bert(given["input_ids"], attention_mask=given["attention_mask"]).logits
        return F.cross_entropy(logits, given["labels"], reduction="none") - whole

    torch.testing.assert_close(found["mean"].per_example[:, layer, head], change(tokens.mean(0)))
    resampled = found["resample"].per_example[:, layer, head]
    for row in range(3):
        # One of the two other examples, its tokens in turn.
        others = [other for other in range(3) if other != row]
        borrowed = [torch.stack([heads[layer][other, t % lengths[other], head] for t in range(9)]) for other in others]
        assert any(torch.isclose(change(values)[row], resampled[row], atol=1e-12) for values in borrowed)


def test_heads_that_do_nothing_have_no_importance(bert):
    dense = bert.bert.encoder.layer[1].attention.output.dense
    with torch.no_grad():
        dense.weight[:, 8:16] = 0
    found = head_importances(Explainer(bert), [batch()], methods=["gate_grad", "leave_one_out", "lrp_head"])
    for importance in found.values():
        zero = importance.scores.abs() < 1e-12
        assert zero[1].tolist() == [False, True, False, False]
        assert zero.sum() == 1


def test_values_of_parts_make_the_importance_of_the_whole(bert):
    explainer, given = Explainer(bert), batch()
    methods = {"g": "gate_grad", "t": "gate_grad_token", "b": "gate_grad_batch", "l": {"method": "leave_one_out"}}
    whole = head_importances(explainer, split(given, 2, 3), methods=methods)
    parts = [head_values(explainer, [part], methods=methods) for part in split(given, 2, 3)]
    for label, spec in methods.items():
        first, second = (part[label] for part in parts)
        joined = HeadValues(
            torch.cat([first.values, second.values]),
            torch.cat([first.tokens, second.tokens]),
            torch.cat([first.batch, second.batch + 1]),
            first.reads_first,
        )
        found = importance_of(spec, joined)
        torch.testing.assert_close(found.scores, whole[label].scores, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(found.interval, whole[label].interval, rtol=1e-12, atol=1e-14)


def test_importances_are_roles_of_every_head(bert, tmp_path):
    found = head_importances(Explainer(bert), [batch()], methods={"mine": "gate_grad", "loo": "leave_one_out"})
    scores = as_scores(found)
    scores.save(tmp_path / "heads.parquet")
    back = HeadScores.load(tmp_path / "heads.parquet")
    assert back.kinds() == ["importance", "importance:mine", "importance:loo"]
    assert not back.mask().any()
    for label, each in found.items():
        torch.testing.assert_close(back.scores[f"importance:{label}"], each.scores, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(back.interval[f"importance:{label}"], each.interval, rtol=1e-6, atol=1e-9)


def test_ablations_by_other_texts_need_all_of_them():
    specs = [{"method": "leave_one_out", "ablation": kind} for kind in ("zero", "mean", "resample")]
    assert [needs_all_texts(spec) for spec in specs] == [False, True, True]
    assert not needs_all_texts("gate_grad")
