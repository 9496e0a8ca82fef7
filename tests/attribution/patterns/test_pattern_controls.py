from __future__ import annotations

import pytest
import torch
from injected import PREVIOUS, REPEATED, injected
from tiny_models import tiny_model

from attribution.errors import InputError
from attribution.patterns import PatternFile, Tokens, evaluate, inject, pattern_heads
from attribution.patterns.controls import arms, random_heads, random_patterns, sparsity, without_patterns

BOTH = {"prev": PREVIOUS, "same": REPEATED}


@pytest.mark.parametrize("causal", [False, True])
def test_random_patterns_are_as_sparse_row_by_row(causal, texts):
    file = injected(BOTH)
    tokens = Tokens.of(texts, causal=causal)
    own, drawn, again, other = (
        evaluate([pattern.pred for pattern in each.patterns.values()], tokens)
        for each in (file, random_patterns(file, 1), random_patterns(file, 1), random_patterns(file, 7))
    )
    assert torch.equal(drawn.sum(-1), own.sum(-1))
    assert torch.equal(drawn, again)
    assert not torch.equal(drawn, own)
    assert not torch.equal(drawn, other)
    assert not (drawn & ~tokens.visible[:, None]).any()


def test_random_patterns_move_with_their_text(texts):
    file = random_patterns(injected({"prev": PREVIOUS}), 1)
    predicates = [pattern.pred for pattern in file.patterns.values()]
    ids = texts["input_ids"][:1]
    alone = evaluate(predicates, Tokens.of({"input_ids": ids}))
    padded = torch.nn.functional.pad(ids, (3, 2))
    found = evaluate(predicates, Tokens(padded, padded != 0))
    assert torch.equal(found[..., 3:15, 3:15], alone)


def test_random_patterns_are_written_and_read(tmp_path):
    file = random_patterns(injected(BOTH), 3)
    file.save(tmp_path / "patterns.yaml")
    assert PatternFile.load(tmp_path / "patterns.yaml") == file


def test_random_heads_are_as_many_in_every_layer():
    file = injected(BOTH, {"0.1": "prev", "0.2": "same", "2.0": "prev"})
    drawn = [random_heads(file, 3, 4, seed).inject.assign.heads for seed in range(8)]
    for heads in drawn:
        assert sorted((head.split(".")[0], name) for head, name in heads.items()) == [
            ("0", "prev"), ("0", "same"), ("2", "prev"),
        ]  # fmt: skip
    assert len({tuple(heads) for heads in drawn}) > 3
    assert random_heads(file, 3, 4, 1).inject.assign.heads == drawn[1]


def test_projected_attention_without_patterns_is_as_large(texts):
    file = injected(BOTH, target="pal", pal={"width": 8, "heads": 4})
    models = [inject(tiny_model("bert"), None, each) for each in (file, without_patterns(file))]
    sizes = [sum(parameter.numel() for parameter in model.parameters()) for model in models]
    assert sizes[0] == sizes[1]
    with torch.no_grad():
        for parameter in pattern_heads(models[0]).projected.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(2))
        pattern_heads(models[1]).projected.load_state_dict(pattern_heads(models[0]).projected.state_dict())
        assert not torch.allclose(*(model(**texts).logits for model in models))
    with pytest.raises(InputError, match="target=pal alone"):
        without_patterns(injected(BOTH))


def test_sparsity_by_hand(texts):
    tokens = Tokens.of(texts)
    lengths = (12, 7, 4)
    found = sparsity(injected({"prev": PREVIOUS}), tokens)
    assert found["prev"] == pytest.approx(1 - sum(lengths) / sum(n * n for n in lengths))
    everything = {"all": {"pred": {"offset": [-99, 99]}}}
    assert sparsity(injected(everything), tokens)["all"] == 0


@pytest.mark.parametrize(
    ("target", "controls"),
    [("in_place", ["random_heads"]), ("student", []), ("pal", ["without_patterns"])],
)
def test_every_target_has_its_arms(target, controls):
    found = arms(injected(BOTH, target=target), 3, 4, seed=1)
    assert list(found) == ["base", "patterns", "random_patterns", *controls]
    assert found["base"] is None
    assert found["patterns"] == injected(BOTH, target=target)
