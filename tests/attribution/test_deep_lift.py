"""DeepLift adds up on whole transformers; each rule is the change it stands for; Captum's rules are Captum's."""

from __future__ import annotations

import pytest
import torch
from bag_of_words import bag_of_words
from tiny_models import tiny_model
from torch import Tensor, nn

from attribution import Explainer, InputError, UnruledOperation
from attribution.model.inputs import Inputs
from attribution.relevance import multipliers
from attribution.relevance.node import Kind, Node, Operands, Pass
from attribution.relevance.tables import DEEP_LIFT

IDS = torch.tensor([[2, 17, 45, 8, 91, 33, 5, 60, 21, 3], [2, 9, 14, 70, 3, 0, 0, 0, 0, 0]])
MASK = (IDS != 0).long()
SPECIAL = ((IDS == 2) | (IDS == 3)).long()
NODE_RULES = DEEP_LIFT.rules


def spread_model(name, dtype=torch.float64):
    """A tiny model whose padding token has an embedding of its own, as trained ones do."""
    model = tiny_model(name, dtype)
    model.config.pad_token_id = 0
    with torch.no_grad():
        embedding = model.get_input_embeddings().weight
        embedding[0] = torch.randn(embedding.shape[1], generator=torch.Generator().manual_seed(3)).to(dtype) / 5
    return model


def difference(explainer, baseline, target, output):
    """What is explained of the rows, less that of the baseline, from the model itself."""
    adapter = explainer.adapter
    embedding = adapter.model.get_input_embeddings()
    words = embedding(IDS)
    other = torch.zeros_like(words) if baseline == "zero" else embedding(torch.zeros_like(IDS))
    kept = (SPECIAL.bool() | (MASK == 0))[..., None]
    values = []
    for embeddings in (words, torch.where(kept, words, other)):
        hook = embedding.register_forward_hook(lambda *_, e=embeddings: e)
        logits = adapter.logits(Inputs.of(IDS, MASK)).clone()
        hook.remove()
        values.append((logits if output == "logit" else logits.softmax(1))[:, target])
    return values[0] - values[1]


@pytest.mark.parametrize("output", ["logit", "probability"])
@pytest.mark.parametrize("baseline", ["pad", "zero"])
def test_scores_are_the_whole_difference_on_every_family(any_model, baseline, output):
    explainer = Explainer(any_model)
    if any_model.config.model_type == "deberta-v2":
        with pytest.raises(UnruledOperation, match="a bias of attention scores that depends on the input"):
            explainer.scores(IDS, MASK, method="deep_lift")
        return
    classes = [1, 2] if explainer.adapter.is_generative else [0, 1]  # the logit of the padding token is always 0
    target = ["start", "end", "span"] if explainer.adapter.is_qa else classes
    scored = explainer.scored_many(
        IDS, MASK, methods={"m": {"method": "deep_lift", "baseline": baseline}}, target=target, output=output
    )["m"]
    size = scored.scores.sum(-1).abs()
    assert (size > 1e-6).all()
    assert (scored.facts["completeness_error"].abs() / size).max() < 1e-10


@pytest.mark.parametrize("name", ["bert", "gpt2"])
@pytest.mark.parametrize("output", ["logit", "probability"])
@pytest.mark.parametrize("baseline", ["pad", "zero"])
def test_the_difference_is_that_of_the_model(name, baseline, output):
    explainer = Explainer(spread_model(name))
    found = explainer.scores(
        IDS, MASK, method="deep_lift", baseline=baseline, target=[0, 1], output=output, special_tokens_mask=SPECIAL
    ).sum(-1)
    expected = torch.stack([difference(explainer, baseline, target, output) for target in (0, 1)], 1)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_single_precision_is_complete_too(name):
    scored = Explainer(spread_model(name, torch.float32)).scored_many(IDS, MASK, methods={"m": "deep_lift"}, target=1)
    error, size = scored["m"].facts["completeness_error"], scored["m"].scores.sum(-1)
    assert (error.abs() / size.abs().clamp(min=1e-2)).max() < 1e-4


def test_special_tokens_receive_nothing_and_padding_neither():
    scores = Explainer(spread_model("bert")).scores(
        IDS, MASK, method="deep_lift", target=1, special_tokens_mask=SPECIAL
    )
    assert not scores[(SPECIAL == 1) | (MASK == 0)].any()
    assert (scores[(SPECIAL == 0) & (MASK == 1)] != 0).all()


def test_the_mean_over_baselines_and_one_alone():
    explainer = Explainer(spread_model("bert"))
    methods = {
        "pad": {"method": "deep_lift", "baseline": "pad"},
        "zero": {"method": "deep_lift", "baseline": "zero"},
        "one": {"method": "deep_lift_shap", "baselines": ["zero"]},
        "two": "deep_lift_shap",
    }
    scored = explainer.scored_many(IDS, MASK, methods=methods, target=[0, 1])
    assert not torch.allclose(scored["pad"].scores, scored["zero"].scores)
    assert torch.equal(scored["one"].scores, scored["zero"].scores)
    mean = (scored["pad"].scores + scored["zero"].scores) / 2
    torch.testing.assert_close(scored["two"].scores, mean, rtol=0, atol=1e-12)
    assert scored["two"].facts["completeness_error"].abs().max() < 1e-12


@pytest.mark.parametrize(("name", "least"), [("bert", 0.999), ("gpt2", 0.98), ("llama", 0.98)])
def test_tokens_are_scored_much_as_integrated_gradients_scores_them(name, least):
    """Both divide the same difference; with the small weights of a stock initialisation they agree on who made it."""
    model = spread_model(name)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(0.1)
    explainer = Explainer(model)
    scores = explainer.scores(IDS, MASK, method="deep_lift", target=1)[0]
    embedding = model.get_input_embeddings()
    words, base = embedding(IDS[:1]).detach(), embedding(torch.zeros_like(IDS[:1])).detach()
    total = torch.zeros_like(words)
    for step in range(100):
        at = (base + (step + 0.5) / 100 * (words - base)).requires_grad_()
        hook = embedding.register_forward_hook(lambda *_, e=at: e)
        total += torch.autograd.grad(model(IDS[:1]).logits[0, 1], at)[0] / 100
        hook.remove()
    integrated = (total * (words - base)).sum(-1)[0]
    assert torch.corrcoef(torch.stack((scores, integrated)))[0, 1] > least


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"method": "deep_lift", "baseline": "cls"}, "baseline=cls is unknown; choices: pad, mask, unk, zero"),
        ({"method": "deep_lift", "baseline": "mask"}, "baseline=mask cannot be used .* choose one of pad, zero"),
        ({"method": "deep_lift", "rules": "half"}, "rules=half is unknown; choices: full, captum"),
        ({"method": "deep_lift_shap", "baselines": []}, "baselines is empty"),
    ],
)
def test_what_it_does_not_know_is_named(bert, parameters, message):
    with pytest.raises(InputError, match=message):
        Explainer(bert).scores_many(IDS, MASK, methods={"m": parameters})


# --- single rules ----------------------------------------------------------------------------------------------------


def compared(kind, function, x, b, **extra):
    """A node of the forward of `x`, and what it is compared with."""
    node = Node(kind, function, Pass(DEEP_LIFT), kind.value, extra=extra)
    node.inputs, node.output = x, function(*x)
    node.current.reference = [Operands(b, function(*b))]
    return node


def change_found(node, arriving):
    found = NODE_RULES[node.kind](node, arriving)
    pairs = zip(found, node.inputs, node.compared.inputs, strict=False)
    return sum((m * (x - b)).sum() for m, x, b in pairs if m is not None)


def pair(*shapes, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda: tuple(scale * torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)  # noqa: E731
    return draw(), draw()


PIECES = {
    "product": (Kind.PRODUCT, torch.mul, ((3, 4), (3, 4)), {}),
    "product that spreads": (Kind.PRODUCT, torch.mul, ((3, 1), (3, 4)), {}),
    "scores": (Kind.SCORES, lambda q, k: q @ k.transpose(-1, -2), ((2, 3, 4), (2, 5, 4)), {}),
    "mix": (Kind.MIX, lambda a, v: a @ v, ((2, 3, 5), (2, 5, 4)), {}),
    "gelu": (Kind.ACTIVATION, nn.functional.gelu, ((3, 4),), {}),
    "relu": (Kind.ACTIVATION, nn.functional.relu, ((3, 4),), {}),
    "softmax": (Kind.SOFTMAX, lambda s: (s * 0.5).softmax(-1), ((2, 3, 5),), {"scaling": 0.5, "mask": None}),
    "layer norm": (
        Kind.NORM,
        lambda x: nn.functional.layer_norm(x, (6,), eps=1e-12),
        ((4, 6),),
        {"weight": None, "eps": 1e-12, "centred": True},
    ),
    "rms norm": (
        Kind.NORM,
        lambda x: 3 * x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt(),
        ((4, 6),),
        {"weight": torch.tensor(3.0), "eps": 1e-6, "centred": False},
    ),
}


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1.0, 30.0])
@pytest.mark.parametrize("piece", PIECES)
def test_a_rules_multipliers_add_up_to_the_change(piece, scale):
    kind, function, shapes, extra = PIECES[piece]
    x, step = pair(*shapes)
    b = tuple(one + scale * other for one, other in zip(x, step, strict=True))
    node = compared(kind, function, x, b, **extra)
    arriving = torch.randn(node.output.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    whole = (arriving * (node.output - node.compared.output)).sum()
    torch.testing.assert_close(change_found(node, arriving), whole, rtol=1e-7, atol=1e-13)


def test_a_uniform_shift_of_scores_is_no_change():
    """The softmax ignores it, and so do the multipliers, also where it is large."""
    x, _ = pair((2, 5))
    for shift in (0.1, 50.0, 1000.0):
        found = multipliers.softmax_multiplier(torch.randn(2, 5).double(), x[0], x[0] + shift, -1)
        assert found.isfinite().all()
        assert (found.sum(-1) * shift).abs().max() < 1e-10
        assert found.abs().max() < 2


@pytest.mark.parametrize("hidden", [-torch.inf, torch.finfo(torch.float64).min])
def test_masked_scores_receive_nothing(hidden):
    mask = torch.tensor([0.0, 0, hidden, 0], dtype=torch.float64)
    x, b = pair((3, 4))
    extra = {"scaling": 1.0, "mask": mask}
    node = compared(Kind.SOFTMAX, lambda s: (s + mask).softmax(-1), x, b, **extra)
    (found,) = multipliers.softmax_difference(node, torch.randn(3, 4).double())
    assert found.isfinite().all()
    assert not found[:, 2].any()


def test_a_baseline_of_nothing_leaves_norms_finite_and_bounded():
    """1/std of a zero vector is as large as eps lets it; the multiplier is twice that of the input alone."""
    kind, function, shapes, extra = PIECES["rms norm"]
    (x,), _ = pair(*shapes)
    node = compared(kind, function, (x,), (torch.zeros_like(x),), **extra)
    found = NODE_RULES[kind](node, torch.ones_like(x))[0]
    assert found.abs().max() < 20


def test_an_operation_without_a_rule_is_refused(bert):
    class Cubed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.pow(3)

    bert.bert.encoder.layer[1].intermediate.intermediate_act_fn = Cubed()
    with pytest.raises(UnruledOperation, match=r"pow at bert\.encoder\.layer\.1\.intermediate\..* in DeepLift"):
        Explainer(bert).scores(IDS, method="deep_lift", target=1)


# --- Captum ----------------------------------------------------------------------------------------------------------


class FromEmbeddings(nn.Module):
    """A classifier as Captum sees it: embeddings in, logits out."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, embeddings, mask):
        return self.model(inputs_embeds=embeddings, attention_mask=mask).logits


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_captums_rules_are_captums_and_do_not_add_up(activation):
    captum = pytest.importorskip("captum.attr")
    model = spread_model("bert")
    if activation == "relu":
        for layer in model.bert.encoder.layer:
            layer.intermediate.intermediate_act_fn = nn.ReLU()
    model.set_attn_implementation("eager")
    explainer = Explainer(model)
    methods = {rules: {"method": "deep_lift", "rules": rules} for rules in ("captum", "full")}
    scored = explainer.scored_many(IDS, MASK, methods=methods, target=1)
    embedding = model.get_input_embeddings()
    words, base = embedding(IDS).detach(), embedding(torch.zeros_like(IDS)).detach()
    base = torch.where(MASK[..., None] == 1, base, words)
    theirs = captum.DeepLift(FromEmbeddings(model)).attribute(words, base, target=1, additional_forward_args=(MASK,))
    torch.testing.assert_close(scored["captum"].scores, theirs.sum(-1) * MASK, rtol=0, atol=1e-5)
    error = {rules: one.facts["completeness_error"].abs() for rules, one in scored.items()}
    assert (error["captum"] > 1e-3).all()
    assert (error["full"] < 1e-12).all()


@pytest.mark.filterwarnings("ignore")
def test_captums_rules_add_up_on_a_stack_of_linear_maps_and_kinks():
    captum = pytest.importorskip("captum.attr")
    model = bag_of_words()
    torch.manual_seed(0)
    model.head = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 2)).double()
    methods = {rules: {"method": "deep_lift", "rules": rules} for rules in ("captum", "full")}
    ids = IDS % 40
    scored = Explainer(model).scored_many(ids, MASK, methods=methods, target=1)
    words = model.get_input_embeddings()(ids).detach() * MASK[..., None]
    base = model.get_input_embeddings()(torch.zeros_like(ids)).detach() * MASK[..., None]
    theirs = captum.DeepLift(model.head).attribute(words.sum(1), base.sum(1), target=1)
    for one in scored.values():
        assert one.facts["completeness_error"].abs().max() < 1e-10
        assert (one.scores.sum(1) - theirs.sum(1)).abs().max() < 1e-5
    # what each of the added tokens brings is scaled alike
    share = (words - base) * (theirs / (words - base).sum(1))[:, None]
    torch.testing.assert_close(scored["captum"].scores, share.sum(-1), rtol=0, atol=1e-5)
