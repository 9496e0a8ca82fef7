"""Attention norms, GlobEnc and ALTI against the formulas written out with the stock model's own modules."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from zeroing_loop import IDS, MASK, exact_model, normalised_rows

from attribution import Explainer, InputError, Inputs, rollout

MODELS = ("bert", "distilbert", "gpt2", "llama")
POST = ("bert", "distilbert")
# family -> value projection, output projection, norms of the residual path with what stands before each
MODULES = {
    "bert": ("attention.self.value", "attention.output.dense", ("attention.output.LayerNorm", "output.LayerNorm")),
    "distilbert": ("attention.v_lin", "attention.out_lin", ("sa_layer_norm", "output_layer_norm")),
    "gpt2": ("attn.c_attn", "attn.c_proj", ("ln_2",)),
    "llama": ("self_attn.v_proj", "self_attn.o_proj", ("post_attention_layernorm",)),
}


class Parts:
    """What one layer of one stock pass leaves: attention [B,H,N,N], per-head vectors [B,H,N,D], norms' inputs."""

    def __init__(self, explainer: Explainer, name: str, layer: int) -> None:
        value, output, norms = MODULES[name]
        module, kept = explainer.adapter.layers()[layer], {}
        self.module, self.norms = module, [module.get_submodule(path) for path in norms]
        hooks = [module.register_forward_pre_hook(lambda _m, args: kept.update(entering=args[0]))]
        hooks += [module.get_submodule(value).register_forward_hook(lambda _m, _a, out: kept.update(value=out))]
        for number, norm in enumerate(self.norms):
            hooks += [norm.register_forward_pre_hook(lambda _m, args, n=number: kept.update({n: args[0]}))]
        with torch.no_grad():
            explainer.model(IDS, attention_mask=MASK)
        for hook in hooks:
            hook.remove()
        self.attention = explainer.adapter.attentions(Inputs.of(IDS, MASK))[layer].clone()
        self.entering, self.before = kept["entering"], kept
        self.vectors = self._carried(kept["value"], module.get_submodule(output))

    def _carried(self, value: Tensor, output: torch.nn.Module) -> Tensor:
        weight = output.weight if isinstance(output, torch.nn.Linear) else output.weight.T
        n_heads, width = self.attention.shape[1], weight.shape[1] // self.attention.shape[1]
        heads = []
        for head in range(n_heads):
            if value.shape[-1] == 3 * n_heads * width:  # GPT-2: query, key and value side by side
                own = value[..., (2 * n_heads + head) * width :][..., :width]
            else:
                group = head * (value.shape[-1] // width) // n_heads
                own = value[..., group * width :][..., :width]
            heads.append(own @ weight[:, head * width : (head + 1) * width].T)
        return torch.stack(heads, 1)

    def mixed(self, *, residual: bool) -> Tensor:
        """[B, N, N, D]."""
        vectors = torch.einsum("bhij,bhjd->bijd", self.attention, self.vectors)
        return vectors + torch.diag_embed(self.entering.transpose(1, 2)).permute(0, 2, 3, 1) if residual else vectors

    def through(self, vectors: Tensor, number: int) -> Tensor:
        norm, x = self.norms[number], self.before[number]
        scale = (x.var(-1, correction=0, keepdim=True) + norm.eps).rsqrt()
        return (vectors - vectors.mean(-1, keepdim=True)) * scale[:, :, None] * norm.weight


def globenc(parts: Parts, post: bool) -> Tensor:
    vectors = parts.mixed(residual=True)
    if post:
        vectors = parts.through(parts.through(vectors, 0), 1)
    return vectors.norm(dim=-1)


def alti(parts: Parts, post: bool) -> Tensor:
    vectors, output = parts.mixed(residual=True), parts.before[0]
    if post:
        vectors, output = parts.through(vectors, 0), parts.norms[0](output)
    distance = (output[:, :, None] - vectors).abs().sum(-1)
    return (output.abs().sum(-1)[..., None] - distance).clamp(min=0)


FORMULAS = {
    ("attention_norm", "heads"): lambda p, post: (p.attention * p.vectors.norm(dim=-1)[:, :, None]).sum(1),
    ("attention_norm", "sum"): lambda p, post: p.mixed(residual=False).norm(dim=-1),
    ("attention_norm", "residual"): lambda p, post: p.mixed(residual=True).norm(dim=-1),
    ("attention_norm", "residual_norm"): lambda p, post: (
        p.through(p.mixed(residual=True), 0) if post else p.mixed(residual=True)
    ).norm(dim=-1),
    ("globenc", None): globenc,
    ("alti", None): alti,
}
SEEN = MASK[:, None] * MASK[:, :, None]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("method", "variant"), FORMULAS)
def test_formulas_written_out(name, method, variant):
    explainer = Explainer(exact_model(name))
    parameters = {"variant": variant} if variant else {}
    found = explainer.context_mixing(IDS, MASK, method=method, **parameters)
    for layer in range(3):
        raw = FORMULAS[method, variant](Parts(explainer, name, layer), name in POST)
        torch.testing.assert_close(found[:, layer], normalised_rows(raw * SEEN), rtol=0, atol=1e-12)
    one = explainer.context_mixing(IDS, MASK, method=method, rows=[3], memory=1, **parameters)
    torch.testing.assert_close(one, found[:, :, 3:4], rtol=0, atol=1e-12)


@pytest.mark.parametrize("variant", ["heads", "sum"])
def test_where_all_values_are_the_same_norms_are_attention(bert, variant):
    for layer in bert.bert.encoder.layer:
        layer.attention.self.value.weight.data.zero_()
        layer.attention.self.value.bias.data.fill_(1.0)
        layer.attention.output.dense.weight.data.copy_(torch.eye(32))
    explainer = Explainer(bert)
    attention = explainer.context_mixing(IDS, MASK, method="raw_attention")
    found = explainer.context_mixing(IDS, MASK, method="attention_norm", variant=variant)
    if variant == "heads":
        torch.testing.assert_close(found, attention, rtol=0, atol=1e-12)
    else:
        own = torch.stack(explainer.adapter.attentions(Inputs.of(IDS, MASK)), 1)
        torch.testing.assert_close(found, normalised_rows(own.square().sum(2).sqrt() * SEEN[:, None]))


@pytest.mark.parametrize("method", ["globenc", "alti"])
def test_without_attention_output_a_token_is_made_of_itself(bert, method):
    for layer in bert.bert.encoder.layer:
        layer.attention.output.dense.weight.data.zero_()
        layer.attention.output.dense.bias.data.zero_()
    matrix = Explainer(bert).context_mixing(IDS, MASK, method=method)
    expected = torch.eye(7).double() * MASK[:, None, :, None]
    # Behind a normalisation, what is nothing stays nothing; ALTI counts what is as near as the zero vector as nothing.
    torch.testing.assert_close(matrix, expected.expand_as(matrix), rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["globenc", "alti"])
def test_scores_are_a_row_of_the_rollout_without_identity(method):
    explainer = Explainer(exact_model("bert"))
    matrix = explainer.context_mixing(IDS, MASK, method=method)
    rolled = rollout(matrix)
    torch.testing.assert_close(rolled.sum(-1), MASK[:, None].expand(2, 3, 7).double(), rtol=0, atol=1e-12)
    scores = explainer.scores(IDS, MASK, method=method)
    torch.testing.assert_close(scores, rolled[:, -1, 0], rtol=0, atol=1e-12)


def test_attention_norm_rollout_adds_the_residual_where_it_is_not_inside(bert):
    explainer = Explainer(bert)
    for variant, inside in (("sum", False), ("residual_norm", True)):
        matrix = explainer.context_mixing(IDS, MASK, method="attention_norm", variant=variant)
        own = matrix if inside else (matrix + torch.eye(7)) / 2
        scores = explainer.scores(IDS, MASK, method="attention_norm", variant=variant)
        torch.testing.assert_close(scores[0], rollout(own)[0, -1, 0], rtol=0, atol=1e-12)


def test_an_unknown_variant_is_named(bert):
    with pytest.raises(InputError, match="variant=all is unknown; choices: heads, sum, residual, residual_norm"):
        Explainer(bert).context_mixing(IDS, MASK, method="attention_norm", variant="all")
