"""Language-model heads, read from checkpoints of every family and trained where there is none."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from tiny_models import CONFIGURATIONS, DECODERS, WORDS, save_tiny, tiny_model
from transformers import AutoTokenizer

from attribution import InputError
from attribution.decoding import HeadRecipe, head_of, read_head, train_language_model
from attribution.decoding.head import RECORD
from attribution.decoding.training import save_language_model
from attribution.loading import load_language_model
from attribution.model.adapter import ModelAdapter

IDS = torch.tensor([[5, 17, 45, 8, 91, 33, 7], [6, 7, 8, 9, 10, 11, 12]])


def language_model(family):
    """A random language model on the tiny model's configuration, biases and norms not at their defaults."""
    loader = transformers.AutoModelForCausalLM if family in DECODERS else transformers.AutoModelForMaskedLM
    torch.manual_seed(2)
    model = loader.from_config(tiny_model(family).config).double().eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def states(model, adapter):
    """What the last block gives, [B, N, D]."""
    seen = []
    hook = adapter.layers()[-1].register_forward_hook(lambda _m, _a, output: seen.append(output))
    with torch.no_grad():
        model.base_model(input_ids=IDS)
    hook.remove()
    return seen[-1][0] if isinstance(seen[-1], tuple) else seen[-1]


@pytest.mark.parametrize("family", CONFIGURATIONS)
def test_a_head_on_the_last_block_is_the_language_model(family, tmp_path):
    model = language_model(family)
    model.save_pretrained(tmp_path)
    explained = tiny_model(family)
    explained.base_model.load_state_dict(model.base_model.state_dict(), strict=False)
    adapter = ModelAdapter(explained)
    head, hidden = read_head(tmp_path, adapter), states(explained, adapter)
    with torch.no_grad():
        wanted = model(input_ids=IDS).logits
    torch.testing.assert_close(head.logits(hidden), wanted, rtol=0, atol=1e-6)
    some = IDS[:, [3, 0, 0]]
    picked = wanted.gather(2, some[:, None].expand(-1, IDS.shape[1], -1))
    torch.testing.assert_close(head.logits_of(hidden, some), picked, rtol=0, atol=1e-6)
    assert head.about == f"the language-model head of {tmp_path.name}"


def test_a_head_shares_the_weights_of_its_model_or_casts_a_copy():
    model = tiny_model("gpt2_lm")
    assert head_of(model, "own").weight.data_ptr() == model.lm_head.weight.data_ptr()
    assert head_of(model, "own", dtype=torch.float32).weight.dtype == torch.float32
    assert {p.dtype for p in model.parameters()} == {torch.float64}


def test_checkpoints_without_a_head_are_refused(tmp_path):
    tiny_model("bert").save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"^conf error: model.lm_head=\S+ has no language-model head \(no cls"):
        read_head(tmp_path, ModelAdapter(tiny_model("bert")))


def test_heads_of_models_of_another_kind_or_width_are_refused(tmp_path):
    language_model("electra").save_pretrained(tmp_path)
    with pytest.raises(InputError, match="its model_type is electra, the explained model's is bert; name the pre-"):
        read_head(tmp_path, ModelAdapter(tiny_model("bert")))
    wide = transformers.ElectraConfig(**{**CONFIGURATIONS["electra"][1], "hidden_size": 64})
    with pytest.raises(InputError, match="its hidden_size is 32, the explained model's is 64"):
        read_head(tmp_path, ModelAdapter(transformers.ElectraForSequenceClassification(wide)))


def test_weights_in_pickle_form_are_refused(tmp_path):
    model = language_model("bert")
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="holds no safetensors weights"):
        read_head(tmp_path, ModelAdapter(tiny_model("bert")))


# --- training -------------------------------------------------------------------------------------------------------

TEXTS = [" ".join([WORDS[i % len(WORDS)]] * (5 + i % 3)) for i in range(80)]  # what is masked stands beside the mask
RECIPE = HeadRecipe(epochs=12, batch_size=8, learning_rate=2e-2)


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    folder = save_tiny("bert", tmp_path_factory.mktemp("body"))
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():  # words that still show behind three random blocks
        model.bert.embeddings.position_embeddings.weight.mul_(0.1)
        for layer in model.bert.encoder.layer:
            layer.output.dense.weight.zero_()
    return model.eval(), AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def trained(body):
    return train_language_model(*body, TEXTS, RECIPE)


def test_training_leaves_the_body_as_it_is(body, trained):
    (model, _), (language_model, _) = body, trained
    for name, weights in language_model.base_model.named_parameters():
        assert torch.equal(weights, model.base_model.get_parameter(name))
        assert not weights.requires_grad
    assert language_model.cls.predictions.decoder.weight is language_model.get_input_embeddings().weight
    assert all(weights.requires_grad for weights in model.parameters())


def test_a_trained_head_recovers_what_is_in_sight_and_its_record_is_right(body, trained):
    (_, tokenizer), (model, quality) = body, trained
    order = torch.randperm(len(TEXTS), generator=torch.Generator().manual_seed(0)).tolist()
    held = tokenizer([TEXTS[i] for i in order[:8]], padding=True, return_tensors="pt")
    with torch.no_grad():
        best = model(**held).logits.argmax(-1)
    words = held["input_ids"] > 4
    recovery = (best == held["input_ids"])[words].double().mean().item()
    assert quality.recovery == pytest.approx(recovery)
    assert recovery > 2 * quality_of_chance(body)
    assert (quality.texts, quality.trained_on) == (8, 72)


def quality_of_chance(body):
    """Recovery of a head that was not trained."""
    return train_language_model(*body, TEXTS, HeadRecipe(epochs=0))[1].recovery


def test_training_is_the_same_every_time_and_draws_from_no_global_state(body):
    recipe = HeadRecipe(epochs=1, batch_size=8)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = train_language_model(*body, TEXTS[:20], recipe)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    second = train_language_model(*body, TEXTS[:20], recipe)
    other = train_language_model(*body, TEXTS[:20], HeadRecipe(epochs=1, batch_size=8, seed=1))
    weights = [model.cls.predictions.transform.dense.weight for model, _ in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert first[1] == second[1]
    assert not torch.equal(weights[0], weights[2])


def test_a_trained_head_is_a_checkpoint_that_says_what_it_is(body, trained, tmp_path):
    (model, tokenizer), (language_model, quality) = body, trained
    save_language_model(language_model, tokenizer, tmp_path, quality, body="abc")
    head = read_head(tmp_path, ModelAdapter(model, tokenizer))
    assert head.about.startswith("a head trained here, by masked language modelling on the frozen body: trained on 72")
    assert f"recovers {quality.recovery:.1%} of the tokens" in head.about
    assert json.loads((tmp_path / RECORD).read_text())["body"] == "abc"
    assert [path.name for path in tmp_path.glob("*.bin")] == []
    assert load_language_model(tmp_path, causal=False)[1] == []


def test_training_is_refused_where_it_cannot_be(body):
    model, tokenizer = body
    with pytest.raises(InputError, match="1 texts are too few"):
        train_language_model(model, tokenizer, TEXTS[:1])
    with pytest.raises(InputError, match="gpt2 models are not trained by masking words"):
        train_language_model(tiny_model("gpt2"), tokenizer, TEXTS)
