"""LRP in gradient form against closed forms, against plain torch, and what it conserves."""

from __future__ import annotations

import pytest
import torch
from lrp_reference import VARIANTS, following, reference
from tiny_models import tiny_model
from torch import nn

from attribution import Explainer, InputError
from attribution.capture import Capture, Need, Trace, trace
from attribution.methods.registry import METHODS
from attribution.model.attention import Taps, attention_forward, own_attention
from attribution.model.inputs import Inputs
from attribution.relevance.mode import recording
from attribution.relevance.node import AbsoluteWeights, Kind, Node, Pass, RuleTable
from attribution.relevance.rules import activation_ratio, softmax_gradient
from attribution.relevance.tables import ATTN_LRP, GRADIENT, LRP_AH, LRP_AH_LN, LRP_LN
from attribution.targets import parts

IDS = torch.tensor([[2, 17, 45, 8, 91, 33, 5, 60, 21, 3], [2, 9, 14, 70, 3, 0, 0, 0, 0, 0]])
MASK = (IDS != 0).long()
CONSERVING = ("lrp_ah_ln", "cp_lrp")


def model_of(name, dtype=torch.float64):
    model = tiny_model(name, dtype)
    model.config.pad_token_id = 0  # of all families, so that they see the same rows
    return model


def zero_what_absorbs(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("bias", "position_embeddings.weight", "token_type_embeddings.weight", "wpe.weight")):
                parameter.zero_()
    return model


def explained(output, target):
    return output.logits[:, target] if hasattr(output, "logits") else output.start_logits[:, target]


# --- closed forms of single operations -------------------------------------------------------------------------------


class Recorded(nn.Module):
    """One operation as our recording sees it."""

    def __init__(self, function):
        super().__init__()
        self.function, self.config = function, type("Config", (), {"_attn_implementation": "eager"})()

    def forward(self, x):
        return self.function(x)

    def relevance(self, x, table, seed):
        """x times what arrives at it under a table."""
        current, x = Pass(GRADIENT), x.clone().requires_grad_()
        with own_attention(self, Taps(current)), recording(self, current, ()):
            result = self(x)
        current.table = table
        return x.detach() * torch.autograd.grad(result, x, seed)[0], result.detach()


@pytest.mark.parametrize("eps", [1e-12, 0.1, 10.0])
def test_9_a_norm_without_bias_keeps_eps_of_the_variance_or_everything(eps):
    torch.manual_seed(0)
    x, seed = torch.randn(3, 8, dtype=torch.float64), torch.randn(3, 8, dtype=torch.float64)
    norm = Recorded(lambda x: nn.functional.layer_norm(x, (8,), None, None, eps))
    plain, result = norm.relevance(x, GRADIENT, seed)
    kept, _ = norm.relevance(x, LRP_LN, seed)
    whole, share = (seed * result).sum(1), eps / (eps + x.var(1, unbiased=False))
    torch.testing.assert_close(plain.sum(1), share * whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(kept.sum(1), whole, rtol=0, atol=1e-12)


def test_9_attention_keeps_its_value_twice_its_covariance_or_half():
    torch.manual_seed(0)
    x, seed = torch.randn(1, 6, 8, dtype=torch.float64), torch.randn(1, 6, 2, 4, dtype=torch.float64)
    q, k, v = (torch.randn(8, 8, dtype=torch.float64) for _ in range(3))

    def attend(x):
        heads = [nn.functional.linear(x, w).unflatten(-1, (2, 4)).transpose(1, 2) for w in (q, k, v)]
        return attention_forward(module, *heads, None)[0]

    module = Recorded(attend)
    found = {table.name: module.relevance(x, table, seed)[0].sum() for table in (GRADIENT, LRP_AH, ATTN_LRP)}
    value = (seed * module.relevance(x, GRADIENT, seed)[1]).sum()
    query, key, values = ((x @ w.T).unflatten(-1, (2, 4)).transpose(1, 2) for w in (q, k, v))
    scores = query @ key.transpose(2, 3) / 2
    weights = scores.softmax(-1)
    onto = seed.transpose(1, 2) @ values.transpose(2, 3)  # g_ij = <v_j, what arrives at i>
    mean = lambda a: (weights * a).sum(-1)  # noqa: E731
    covariance = (mean(scores * onto) - mean(scores) * mean(onto)).sum()
    torch.testing.assert_close(found[GRADIENT.name], value + 2 * covariance, rtol=0, atol=1e-12)
    torch.testing.assert_close(found[LRP_AH.name], value, rtol=0, atol=1e-12)
    torch.testing.assert_close(found[ATTN_LRP.name], (value + covariance) / 2, rtol=0, atol=1e-12)


def node_of(kind, function, x, **extra):
    node = Node(kind, function, Pass(ATTN_LRP), kind.value, extra=extra)
    node.inputs, node.output = (x,), function(x)
    return node


def test_12_the_softmax_rule_is_the_gradient():
    torch.manual_seed(0)
    x, relevance = torch.randn(2, 3, 5, 5, dtype=torch.float64), torch.randn(2, 3, 5, 5, dtype=torch.float64)
    node = node_of(Kind.SOFTMAX, lambda x: (x * 0.5).softmax(-1), x, scaling=0.5)
    (gradient,) = softmax_gradient(node, relevance / node.output)
    taylor = x * 0.5 * (relevance - node.output * relevance.sum(-1, keepdim=True))
    torch.testing.assert_close(x * gradient, taylor, rtol=0, atol=1e-14)


def test_12_the_identity_rule_is_finite_at_zero():
    x = torch.tensor([0.0, -1.0, 2.0])
    (slope,) = activation_ratio(node_of(Kind.ACTIVATION, nn.functional.gelu, x), torch.ones(3))
    assert slope[0] == 0
    torch.testing.assert_close(slope * x, nn.functional.gelu(x))


def test_12_the_uniform_rule_halves():
    x = torch.randn(4, dtype=torch.float64)
    relevance, result = Recorded(lambda x: (x + x) * (x * 3)).relevance(x, ATTN_LRP, torch.ones(4).double())
    torch.testing.assert_close(relevance, result, rtol=0, atol=1e-12)  # half and half; the gradient gives twice that


def test_a_product_of_two_gates_is_refused_by_cp_lrp():
    from attribution import UnruledOperation
    from attribution.relevance.tables import CP_LRP

    with pytest.raises(UnruledOperation, match="which of its factors is the gate"):
        Recorded(lambda x: x * x).relevance(torch.randn(4), CP_LRP, torch.ones(4))


# --- whole models ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("method", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_11_relevance_is_that_of_plain_torch(name, method, dtype):
    tolerance = 1e-9 if dtype == torch.float64 else 1e-5
    model = model_of(name, dtype)
    ours = Explainer(model).scores(IDS, MASK, method=method, target=[0, 1])
    for target in (0, 1):
        theirs = reference(
            model, VARIANTS[method], lambda o, t=target: o.logits[:, t], input_ids=IDS, attention_mask=MASK
        )
        theirs = theirs.sum(-1) * MASK
        scale = theirs.abs().amax()
        assert ((ours[:, target] - theirs).abs().max() / scale).item() < tolerance


@pytest.mark.parametrize("name", ["bert", "roberta_qa", "gpt2", "llama"])
@pytest.mark.parametrize("method", VARIANTS)
def test_10_what_biases_and_positions_absorb_is_their_part_of_the_gradient(name, method):
    model = model_of(name)
    qa = name.endswith("qa")
    target = {"target": "start"} if qa else {"target": 1}
    facts = Explainer(model).scored_many(IDS, MASK, methods={"m": method}, **target)["m"].facts
    if qa:
        positions = torch.arange(10).expand(2, -1) + 1
        start = Explainer(model).adapter.logits(Inputs.of(IDS, MASK))[..., 0].masked_fill(MASK == 0, -torch.inf)
        at = start.argmax(1).clone()
        read = lambda o: o.start_logits.gather(1, at[:, None])  # noqa: E731
        extra = {"position_ids": positions}
    else:
        read, extra = (lambda o: o.logits[:, 1]), {}
    _, shares = reference(model, VARIANTS[method], read, parameters=True, input_ids=IDS, attention_mask=MASK, **extra)
    assert facts["absorbed_by_biases"].sum().item() == pytest.approx(shares["biases"], abs=1e-9)
    assert facts["absorbed_by_positions"].sum().item() == pytest.approx(shares["positions"], abs=1e-9)


@pytest.mark.parametrize("method", CONSERVING)
def test_10_relevance_and_what_was_absorbed_are_what_is_explained(any_model, method):
    model = any_model
    explainer = Explainer(model)
    target = ["start", "end", "span"] if explainer.adapter.is_qa else [0, 1]
    for output in ("logit", "probability"):
        scored = explainer.scored_many(IDS, MASK, methods={"m": method}, target=target, output=output)["m"]
        facts = scored.facts
        whole = facts["relevance"] + facts["absorbed_by_biases"] + facts["absorbed_by_positions"]
        torch.testing.assert_close(whole, facts["explained"], rtol=0, atol=1e-9)
        torch.testing.assert_close(scored.scores.sum(-1), facts["relevance"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_10_without_biases_and_positions_relevance_is_the_logit(name):
    model = zero_what_absorbs(model_of(name))
    explainer = Explainer(model)
    logits = explainer.adapter.logits(Inputs.of(IDS, MASK)).clone()
    for method in CONSERVING:
        sums = explainer.scores(IDS, MASK, method=method, target=[0, 1]).sum(-1)
        tolerance = 1e-6 if name == "llama" else 1e-9  # stock Llama normalises in float32
        torch.testing.assert_close(sums, logits, rtol=0, atol=tolerance)
    for method in ("attn_lrp", "lrp_ln"):
        sums = explainer.scores(IDS, MASK, method=method, target=[0, 1]).sum(-1)
        assert ((sums - logits).abs() / logits.abs()).min() > 0.01


def test_10_the_last_norm_of_a_post_norm_model_kills_gradient_times_input_and_ah_alone():
    model = zero_what_absorbs(model_of("bert"))
    assert Explainer(model).scores(IDS, MASK, method="lrp_ah", target=1).sum(1).abs().max() < 1e-6
    run, part = run_of(model)
    (gradient,) = run.backward(GRADIENT, part.gradient, [run.embeddings])
    assert (run.embeddings * gradient).sum((1, 2)).abs().max() < 1e-6
    assert run.logits[:, 1].abs().min() > 1e-2


def run_of(model, target=1):
    adapter = Explainer(model).adapter
    run = trace(adapter, Inputs.of(IDS, MASK), Need.MODIFIED_GRADIENT, AbsoluteWeights())
    (part,) = parts(target, run.logits.detach(), run.visible, adapter.read_out(run.inputs))
    return run, part


def test_10_on_a_pre_norm_model_they_lose_a_part():
    model = zero_what_absorbs(model_of("gpt2"))
    logits = Explainer(model).adapter.logits(Inputs.of(IDS, MASK))[:, 1].clone()
    for method in ("input_x_gradient", "lrp_ah"):
        lost = 1 - Explainer(model).scores(IDS, MASK, method=method, target=1).sum(1) / logits
        assert lost.abs().min() > 0.01


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_10_with_the_true_gradient_of_activations_more_or_less_arrives(name):
    """The identity rule is needed: everything else constant or linear, a GELU still adds or takes relevance."""
    run, part = run_of(zero_what_absorbs(model_of(name)))
    rules = {kind: rule for kind, rule in LRP_AH_LN.rules.items() if kind is not Kind.ACTIVATION}
    table = RuleTable("plain activations", {**rules, Kind.ACTIVATION: GRADIENT.rules[Kind.ACTIVATION]})
    sums = {}
    for each in (LRP_AH_LN, table):
        (gradient,) = run.backward(each, part.gradient, [run.embeddings])
        sums[each.name] = (run.embeddings * gradient).sum((1, 2)) / run.logits[:, 1].detach()
    torch.testing.assert_close(sums[LRP_AH_LN.name], torch.ones(2).double(), rtol=0, atol=1e-9)
    assert (sums[table.name] - 1).abs().min() > 0.01


@pytest.mark.parametrize("name", ["bert", "gpt2"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_9_every_attention_of_a_model_keeps_half_of_its_value_and_of_its_covariance(name, layer):
    """What AttnLRP leaves at query, key and value of a block, against what arrives at the attention's output."""
    model = model_of(name)
    block, mine = Explainer(model).adapter.layers()[layer], []
    projected = block.attention.self if name == "bert" else block.attn
    fused = name == "gpt2"
    wanted = [projected.c_attn] if fused else [projected.query, projected.key, projected.value]
    hooks = [each.register_forward_hook(lambda m, i, o: mine.append(o)) for each in wanted]
    output = projected.c_proj if fused else block.attention.output.dense
    hooks.append(output.register_forward_pre_hook(lambda m, args: mine.append(args[0])))
    run, part = run_of(model)
    for hook in hooks:
        hook.remove()
    *arrived, seed = run.backward(ATTN_LRP, part.gradient, mine)
    found = sum((x.detach() * gradient).sum((1, 2)) for x, gradient in zip(mine, arrived, strict=False))
    value = (mine[-1].detach() * seed).sum((1, 2))
    vectors = mine[0].split(32, -1) if fused else mine[:3]
    query, key, values, onto = (x.detach().unflatten(-1, (4, 8)).transpose(1, 2) for x in (*vectors, seed))
    scores = query @ key.transpose(2, 3) / 8**0.5
    weights = run.attention[layer].detach()
    reached = onto @ values.transpose(2, 3)
    mean = lambda a: (weights * a).sum(-1)  # noqa: E731
    covariance = (mean(scores * reached) - mean(scores) * mean(reached)).sum((1, 2))
    torch.testing.assert_close(found, (value + covariance) / 2, rtol=0, atol=1e-12)
    assert covariance.abs().max() > 1e-6


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("method", ["lrp_ah_ln", "attn_lrp"])
def test_13_one_backward_is_the_loop_over_blocks(name, method):
    """Relevance of each block's input from that of its output, block after block: x times the local gradient."""
    model = model_of(name)
    run, part = run_of(model)
    capture = Capture(run, part, Need.MODIFIED_GRADIENT)
    table = METHODS[method].table
    entering = []
    blocks = Explainer(model).adapter.layers()
    hooks = [
        block.register_forward_pre_hook(lambda m, args, kwargs: entering.append(args[0]), with_kwargs=True)
        for block in blocks
    ]
    embeddings = model.get_input_embeddings().register_forward_hook(lambda m, i, o: o.requires_grad_())
    with following(model, VARIANTS[method]):
        logits = model(input_ids=IDS, attention_mask=MASK).logits
    for hook in [*hooks, embeddings]:
        hook.remove()
    relevance, top = logits[:, 1], logits
    for layer in reversed(range(len(entering))):
        seed = torch.zeros_like(top)
        if top is logits:
            seed[:, 1] = relevance / top[:, 1]
        else:
            seed = relevance / top
        (gradient,) = torch.autograd.grad(top, entering[layer], seed.detach(), retain_graph=True)
        top = entering[layer]
        relevance = top * gradient
        found = capture.modified.conserved(part, table, layer).relevance
        visible = MASK[..., None]
        torch.testing.assert_close(found * visible, relevance * visible, rtol=0, atol=1e-9)


def test_scores_at_a_layer_are_relevance_there_and_its_bounds_are_named():
    explainer = Explainer(model_of("bert"))
    run, part = run_of(explainer.model)
    there = Capture(run, part, Need.MODIFIED_GRADIENT).modified.conserved(part, LRP_AH_LN, 2).relevance.sum(-1)
    scores = explainer.scores(IDS, MASK, method="lrp_ah_ln", target=1, layer=2)
    torch.testing.assert_close(scores, there * MASK, rtol=0, atol=1e-12)
    with pytest.raises(InputError, match="layer=3 is not a block of the model; choices: 0 to 2"):
        explainer.scores(IDS, MASK, method="lrp_ah_ln", target=1, layer=3)


@pytest.mark.parametrize("method", [*VARIANTS, "deep_lift"])
def test_12_several_targets_are_carried_by_one_backward(method, monkeypatch):
    explainer = Explainer(model_of("bert"))
    single = [explainer.scores(IDS, MASK, method=method, target=target) for target in (0, 1)]
    seeds = []
    backward = Trace.backward
    monkeypatch.setattr(Trace, "backward", lambda *a, **k: (seeds.append(len(a[2])), backward(*a, **k))[1])
    together = explainer.scores(IDS, MASK, method=method, target=[0, 1, 1, 0, 1])
    assert seeds == [5]
    expected = torch.stack([single[target] for target in (0, 1, 1, 0, 1)], 1)
    torch.testing.assert_close(together, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("limit", ["MOST_TOKENS", "MOST_LOGITS"])
def test_more_targets_than_one_backward_holds_take_several(limit, monkeypatch):
    from attribution import carried

    explainer = Explainer(model_of("bert"))
    whole = explainer.scores(IDS, MASK, method="attn_lrp", target=[0, 1, 0])
    monkeypatch.setattr(carried, limit, {"MOST_TOKENS": 2 * IDS.numel(), "MOST_LOGITS": 8}[limit])
    seeds = []
    backward = Trace.backward
    monkeypatch.setattr(Trace, "backward", lambda *a, **k: (seeds.append(a[2].shape), backward(*a, **k))[1])
    parted = explainer.scores(IDS, MASK, method="attn_lrp", target=[0, 1, 0])
    assert [tuple(shape) for shape in seeds] == [(2, 2, 2), (2, 2)]
    torch.testing.assert_close(parted, whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", [*VARIANTS, "deep_lift"])
def test_15_nothing_global_is_patched_and_the_model_answers_as_before(bert, method):
    bert.train()
    norm, linear, attention = nn.LayerNorm.forward, nn.functional.linear, bert.config._attn_implementation
    before = bert.eval()(IDS, MASK).logits
    Explainer(bert).scores(IDS, MASK, method=method, target=1)
    assert nn.LayerNorm.forward is norm
    assert nn.functional.linear is linear
    assert bert.config._attn_implementation == attention
    assert torch.equal(bert(IDS, MASK).logits, before)
    run, _ = run_of(bert)
    torch.testing.assert_close(run.logits, before, rtol=0, atol=1e-12)


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_heads_and_residual_hold_the_logit_at_every_block(name, layer):
    """With attention weights constant a block's relevance is that of its heads and of what goes around them."""
    model = zero_what_absorbs(model_of(name))
    blocks = Explainer(model).adapter.layers()
    output = (lambda block: block.attention.output.dense) if name == "bert" else (lambda block: block.attn.c_proj)
    mixed = []
    hooks = [output(block).register_forward_pre_hook(lambda m, args: mixed.append(args[0])) for block in blocks]
    run, part = run_of(model)
    for hook in hooks:
        hook.remove()
    entering = run.hidden[layer]
    # cut what enters the block from its heads: what arrives at it beside them is the residual's
    found = run.backward(LRP_AH_LN, part.gradient, [mixed[layer], entering])
    heads = (mixed[layer] * found[0]).unflatten(-1, (4, 8)).sum((1, 3))  # [B, H]
    (through,) = torch.autograd.grad(mixed[layer], entering, found[0], retain_graph=True)
    residual = (entering * (found[1] - through)).sum((1, 2))
    value = run.logits[:, 1].detach()
    torch.testing.assert_close(heads.sum(1) + residual, value, rtol=0, atol=1e-6)
    assert (heads.abs() > 1e-6).all()
