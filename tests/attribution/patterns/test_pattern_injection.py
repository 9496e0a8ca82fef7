from __future__ import annotations

import copy

import pytest
import torch
from injected import PREVIOUS, REPEATED, attentions, injected, logits
from tiny_models import tiny_model
from transformers import BartConfig, BartForSequenceClassification

from attribution import Explainer
from attribution.errors import InputError
from attribution.model.inputs import Inputs
from attribution.patterns import Arcs, inject, trees

ENCODERS = ("bert", "roberta", "xlm_roberta", "distilbert", "albert", "electra", "modernbert")
DECODERS = ("gpt2", "llama", "qwen3")


@pytest.mark.parametrize("family", ENCODERS + DECODERS)
def test_a_pattern_that_allows_everything_changes_nothing(family, texts):
    model = tiny_model(family, torch.float32)
    model.set_attn_implementation("eager")
    everything = {"all": {"pred": {"offset": [-99, 99]}, "mode": "mask"}}
    changed = inject(model, None, injected(everything, {"0.0": "all", "2.3": "all"}))
    assert torch.equal(logits(changed, texts), logits(model, texts))


def test_what_cannot_be_replaced_is_refused_by_name(texts):
    file = injected({"prev": PREVIOUS})
    with pytest.raises(InputError, match="type deberta-v2 compute attention by themselves"):
        inject(tiny_model("deberta"), None, file)
    size = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 30, "encoder_attention_heads": 2,
            "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}  # fmt: skip
    with pytest.raises(InputError, match="type bart is not supported"):
        inject(BartForSequenceClassification(BartConfig(**size)), None, file)


@pytest.mark.parametrize("family", ENCODERS + DECODERS)
def test_heads_attend_to_what_their_patterns_allow(family, texts):
    model = tiny_model(family)
    changed = inject(model, None, injected({"prev": PREVIOUS, "same": REPEATED}, {"0.1": "prev", "0.2": "same"}))
    before, after = Explainer(model).adapter.attentions(Inputs.from_mapping(texts))[0], attentions(changed, texts)[0]
    ids, real = texts["input_ids"], texts["attention_mask"].bool()
    for row, length in enumerate(real.sum(1).tolist()):
        fixed = torch.zeros(length, length, dtype=torch.float64)
        fixed[0, 0] = 1  # the first row has no previous token and attends to itself
        fixed[torch.arange(1, length), torch.arange(length - 1)] = 1
        assert torch.equal(after[row, 1, :length, :length], fixed)
        for i in range(length):
            again = [j for j in range(length) if j != i and ids[row, j] == ids[row, i]]
            again = [j for j in again if j < i or family not in DECODERS]
            seen = before[row, 2, i] > 0  # sliding windows hide more
            again = [j for j in again if seen[j]]
            expected = before[row, 2, i].clone()  # where nothing is repeated the head is as it was
            if again:
                expected = torch.zeros_like(expected)
                expected[again] = before[row, 2, i, again] / before[row, 2, i, again].sum()
            torch.testing.assert_close(after[row, 2, i], expected, rtol=1e-5, atol=1e-7)
        assert (after[row, :, :length, length:] == 0).all()
    assert torch.equal(after[:, [0, 3]], before[:, [0, 3]])
    torch.testing.assert_close(after.sum(-1), torch.ones_like(after.sum(-1)), rtol=0, atol=1e-6)  # of float32 softmax


@pytest.mark.parametrize("mode", ["mask", "fix"])
@pytest.mark.parametrize("empty", ["self", "cls", "uniform", "original"])
def test_rows_without_a_key_follow_the_policy(mode, empty, bert, texts):
    bert.set_attn_implementation("eager")
    far = {"far": {"pred": {"offset": -5}, "mode": mode, "empty": empty}}
    changed = inject(bert, None, injected(far, {"0.0": "far"}))
    before, after = attentions(bert, texts)[0][:, 0], attentions(changed, texts)[0][:, 0]
    real = texts["attention_mask"].bool()
    for row, length in enumerate(real.sum(1).tolist()):
        for i in range(min(5, length)):
            expected = torch.zeros(12, dtype=torch.float64)
            if empty == "uniform":
                expected[:length] = 1 / length
            expected = before[row, i] if empty == "original" else expected
            if empty in ("self", "cls"):
                expected[i if empty == "self" else 0] = 1
            torch.testing.assert_close(after[row, i], expected)
        for i in range(5, length):
            assert after[row, i, i - 5] == 1


@pytest.mark.parametrize("family", DECODERS)
@pytest.mark.parametrize("mode", ["mask", "fix"])
@pytest.mark.parametrize("empty", ["self", "cls", "uniform", "original"])
def test_decoders_attend_to_nothing_later_whatever_the_policy(family, mode, empty, texts):
    around = {"around": {"pred": {"offset": [-2, 2]}, "mode": mode, "empty": empty}}
    far = {"far": {"pred": {"offset": -5}, "mode": mode, "empty": empty}}
    changed = inject(tiny_model(family), None, injected({**around, **far}, {"0.0": "around", "1.1": "far"}))
    real = texts["attention_mask"].bool()
    for layer in attentions(changed, texts):
        assert (layer.triu(1) == 0).all()
        rows = layer.transpose(1, 2)[real]
        torch.testing.assert_close(rows.sum(-1), torch.ones_like(rows[..., 0]), rtol=0, atol=1e-6)


def test_a_mask_of_one_key_is_the_fixed_pattern(bert, texts):
    modes = [
        inject(bert, None, injected({"prev": {"pred": {"offset": -1}, "mode": mode, "empty": "self"}}, {"1.2": "prev"}))
        for mode in ("mask", "fix")
    ]
    real = texts["attention_mask"].bool()
    first, second = ([layer.transpose(1, 2)[real] for layer in attentions(model, texts)] for model in modes)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(*(logits(model, texts) for model in modes))


@pytest.mark.parametrize("family", ["bert", "albert", "gpt2", "modernbert"])
def test_padding_and_batches_change_nothing(family, texts):
    changed = inject(tiny_model(family), None, injected({"prev": PREVIOUS, "same": REPEATED}))
    together = logits(changed, texts)
    for row, length in enumerate(texts["attention_mask"].sum(1).tolist()):
        alone = logits(changed, {name: value[row : row + 1, :length] for name, value in texts.items()})
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-6, atol=1e-7)


def test_fixed_heads_give_their_queries_and_keys_no_gradient(bert, texts):
    heads = {f"{layer}.{head}": "prev" for layer in range(3) for head in (0, 3)}
    changed = inject(bert, None, injected({"prev": PREVIOUS}, heads))
    changed(**texts).logits[:, 0].sum().backward()
    for name in ("query", "key"):
        gradient = changed.bert.encoder.layer[0].attention.self.get_submodule(name).weight.grad.view(4, 8, 32)
        assert (gradient[[0, 3]] == 0).all()
        assert (gradient[[1, 2]] != 0).any()


@pytest.mark.parametrize("asked", [False, True])
def test_dropout_leaves_fixed_rows_alone_unless_asked_for(asked, bert, texts):
    bert.config.attention_probs_dropout_prob = 0.5
    changed = inject(bert, None, injected({"prev": PREVIOUS}, {"0.0": "prev"}, dropout_on_fixed=asked))
    block, seen = changed.bert.encoder.layer[0].attention, {}
    block.self.value.register_forward_hook(lambda _module, _args, output: torch.ones_like(output))
    block.output.dense.register_forward_pre_hook(lambda _module, args: seen.update(mixed=args[0]))
    block.train()
    changed(**texts)
    fixed, other = seen["mixed"].unflatten(-1, (4, -1)).unbind(2)[:2]
    assert torch.allclose(fixed, torch.ones_like(fixed)) is not asked
    assert not torch.allclose(other, torch.ones_like(other))


@pytest.mark.parametrize("method", ["input_x_gradient", "mask_lrp", "attn_lrp", "attention_rollout", "value_zeroing"])
def test_explanations_see_the_patterns(method, bert, texts):
    changed = inject(bert, None, injected({"prev": PREVIOUS, "same": REPEATED}))
    plain, with_patterns = (Explainer(model).scores(**texts, method=method, target=0) for model in (bert, changed))
    assert with_patterns.isfinite().all()
    assert not torch.allclose(plain, with_patterns)


@pytest.mark.parametrize("family", ["bert", "albert", "modernbert", "gpt2", "llama", "qwen3"])
def test_explainers_see_the_attention_that_the_model_has(family, texts):
    changed = inject(tiny_model(family), None, injected({"prev": PREVIOUS, "same": REPEATED}))
    found = Explainer(changed).adapter.attentions(Inputs.from_mapping(texts))
    for mine, theirs in zip(found, attentions(changed, texts), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)  # stock models cast to float32 here and there
    assert torch.equal(found[2][0, 0, 1:].argmax(1), torch.arange(11))


def test_gradients_are_those_of_finite_differences(bert, texts):
    changed = inject(bert, None, injected({"prev": PREVIOUS, "same": REPEATED}))
    found = Explainer(changed).scores(**texts, method="input_x_gradient", target=0)
    embedded = changed.get_input_embeddings()(texts["input_ids"])
    direction = torch.zeros_like(embedded)
    direction[0, 2] = embedded[0, 2]
    moved = []
    for step in (1e-5, -1e-5):
        hook = changed.get_input_embeddings().register_forward_hook(lambda _m, _a, out, s=step: out + s * direction)
        moved.append(logits(changed, texts)[0, 0])
        hook.remove()
    torch.testing.assert_close(found[0, 2], (moved[0] - moved[1]) / 2e-5, rtol=1e-5, atol=1e-8)


def test_a_copy_carries_its_patterns(bert, texts):
    changed = inject(bert, None, injected({"prev": PREVIOUS}))
    other = copy.deepcopy(changed)
    with torch.no_grad():
        other.classifier.weight.zero_()
        other.classifier.bias.zero_()
    assert (logits(other, texts) == 0).all()
    assert not (logits(changed, texts) == 0).all()


def test_the_model_given_stays_as_it_is(bert, texts):
    before = logits(bert, texts)
    changed = inject(bert, None, injected({"prev": PREVIOUS}))
    with torch.no_grad():
        changed.classifier.weight.zero_()
    assert torch.equal(logits(bert, texts), before)
    assert not hasattr(bert.config, "head_patterns")


def test_trees_are_given_by_the_context(bert, texts):
    subject = {"subject": {"pred": {"dependency": {"relation": "nsubj"}}, "mode": "fix", "empty": "self"}}
    changed = inject(bert, None, injected(subject, {"0.0": "subject"}))
    with pytest.raises(InputError, match="needs trees"):
        changed(**texts)
    none = torch.full((3, 12), -1)
    words, governors, relations = none.clone(), none.clone(), none.clone()
    words[:, 1:3] = torch.tensor([0, 1])
    governors[:, 1], relations[:, 1] = 1, 0
    with trees(Arcs(words, governors, relations, ["nsubj"])):
        found = attentions(changed, texts)[0][0, 0]
    assert found[1, 2] == 1
    assert found[2, 2] == 1


@pytest.mark.parametrize(
    ("family", "file", "message"),
    [
        ("gpt2", {"patterns": {"next": {"pred": {"offset": 1}}}}, "patterns.next holds for later tokens alone"),
        ("bert", {"patterns": {"prev": PREVIOUS}, "heads": {"3.0": "prev"}}, r"no head 3.0; layers are 0 to 2"),
        ("bert", {"patterns": {"prev": PREVIOUS}, "heads": {"0.4": "prev"}}, r"no head 0.4; .* heads 0 to 3"),
        ("bert", {"patterns": {"s": {"pred": {"same_token": {"casefold": True}}}}}, "give the model its tokenizer"),
        ("bert", {"patterns": {f"p{i}": PREVIOUS for i in range(5)}}, "asks for 5 heads in a layer and there are 4"),
        ("bert", {"patterns": {"prev": PREVIOUS}, "target": "pal", "pal": {"width": 9, "heads": 2}}, "not a multiple"),
    ],
)
def test_patterns_that_do_not_fit_are_refused(family, file, message):
    with pytest.raises(InputError, match=message):
        inject(tiny_model(family), None, injected(**file))


def test_other_implementations_and_generation_are_refused(texts):
    changed = inject(tiny_model("gpt2_lm"), None, injected({"prev": PREVIOUS}))
    ids = texts["input_ids"][:1]
    cache = changed(ids, use_cache=True).past_key_values
    with pytest.raises(InputError, match="use_cache=False"):
        changed(ids[:, :1], past_key_values=cache)
    changed.transformer.gradient_checkpointing = True
    with pytest.raises(InputError, match="gradient checkpointing"):
        changed.train()(ids)
    changed.eval()
    changed.set_attn_implementation("eager")
    with pytest.raises(InputError, match="'eager' knows no patterns"):
        changed(ids)
    with pytest.raises(InputError, match="has patterns already"):
        inject(changed, None, injected({"prev": PREVIOUS}))
