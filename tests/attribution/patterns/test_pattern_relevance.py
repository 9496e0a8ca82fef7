from __future__ import annotations

import pyarrow.parquet as pq
import pytest
import torch
from injected import PREVIOUS, REPEATED, injected
from safetensors.torch import save_file
from tiny_models import tiny_model

from attribution import Explainer
from attribution.errors import InputError
from attribution.patterns import PatternFile, PatternRelevance, evaluate, inject, pattern_relevance
from attribution.patterns.mass import PatternMass, measure
from attribution.patterns.predicates import read_predicate
from attribution.patterns.relevance import random_like
from attribution.patterns.tokens import Tokens

PATTERNS = {"prev": {"offset": -1}, "same": {"same_token": {}}, "not_same": {"not": {"same_token": {}}}}


def predicates(patterns=PATTERNS):
    return {name: read_predicate(each) for name, each in patterns.items()}


def measured(model, *batches, patterns=PATTERNS):
    return measure(Explainer(model).adapter, batches, predicates(patterns))


class Even:
    """A model whose heads attend evenly to all they see."""

    device, n_layers, n_heads, tokenizer = torch.device("cpu"), 2, 3, None

    def __init__(self, causal=False):
        self.causal = causal

    def attentions(self, inputs):
        seen = Tokens(inputs.input_ids, inputs.attention_mask.bool(), causal=self.causal).visible.double()
        return [(seen / seen.sum(-1, keepdim=True).clamp(min=1))[:, None].expand(-1, 3, -1, -1)] * 2


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_equals_a_loop_over_documents_queries_and_keys(family, texts):
    model = tiny_model(family)
    model.set_attn_implementation("eager")
    found = measured(model, texts)
    for row, length in enumerate(texts["attention_mask"].sum(1).tolist()):
        ids = texts["input_ids"][row : row + 1, :length]
        attention = model(ids, output_attentions=True).attentions
        rules = (lambda i, j, _ids: j == i - 1), (lambda i, j, ids: i != j and ids[i] == ids[j])
        for at, holds in enumerate(rules):
            for layer, head in ((0, 0), (2, 3)):
                total = sum(
                    attention[layer][0, head, i, j].item()
                    for i in range(length)
                    for j in range(length)
                    if holds(i, j, ids[0]) and (j <= i or family == "bert")
                )
                assert found.mass[row, at, layer, head].item() == pytest.approx(total / length, abs=1e-10)


@pytest.mark.parametrize("causal", [False, True])
def test_even_attention_has_exactly_the_uniform_reference(causal, texts):
    mass = measure(Even(causal), [texts], predicates())
    for queries in ("all", "applicable"):
        relevance = PatternRelevance(mass, queries=queries)
        expected = relevance.uniform[:, None, None].expand_as(relevance.scores)
        torch.testing.assert_close(relevance.scores, expected, rtol=1e-14, atol=0)
    if not causal:
        by_hand = sum((n - 1) / n**2 for n in (12, 7, 4)) / 3
        assert relevance.mass.uniform[:, 0].mean().item() == pytest.approx(by_hand, abs=1e-15)


def test_a_pattern_and_its_opposite_are_everything(bert, texts):
    found = measured(bert, texts)
    torch.testing.assert_close(
        found.mass[:, 1] + found.mass[:, 2], torch.ones_like(found.mass[:, 1]), rtol=0, atol=1e-12
    )
    total = found.uniform[:, 1] + found.uniform[:, 2]
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)


def test_an_injected_head_is_all_its_pattern_where_it_applies(bert, texts):
    heads = {"0.1": "prev", "2.3": "same"}
    changed = inject(bert, None, injected({"prev": PREVIOUS, "same": REPEATED}, heads))
    mass = measured(changed, texts)
    applicable = PatternRelevance(mass, queries="applicable")
    ones = torch.ones((), dtype=torch.float64)
    torch.testing.assert_close(applicable.scores[0, 0, 1], ones, rtol=0, atol=1e-12)
    torch.testing.assert_close(applicable.scores[1, 2, 3], ones, rtol=0, atol=1e-12)
    by_hand = sum((n - 1) / n for n in (12, 7, 4)) / 3  # every first row has no previous token
    assert PatternRelevance(mass).scores[0, 0, 1].item() == pytest.approx(by_hand, abs=1e-12)


def test_neither_padding_nor_batches_matter(bert, texts, monkeypatch):
    found = measured(bert, texts)
    alone = [
        {name: value[row : row + 1, :length] for name, value in texts.items()}
        for row, length in enumerate(texts["attention_mask"].sum(1).tolist())
    ]
    left = {name: torch.stack([row.roll(int((row == 0).sum())) for row in value]) for name, value in texts.items()}
    monkeypatch.setattr("attribution.patterns.mass._ELEMENTS", 1)
    for batches in (alone, [left], [texts]):
        other = measured(bert, *batches)
        for name in ("mass", "uniform", "share"):
            torch.testing.assert_close(getattr(other, name), getattr(found, name), rtol=0, atol=1e-12)


def test_nothing_of_the_size_of_attention_is_kept(texts):
    passes = []

    class Watched(Even):
        def attentions(self, inputs):
            passes.append(inputs.shape)
            return super().attentions(inputs)

    found = measure(Watched(), [texts] * 4, predicates())
    kept = sum(value.numel() for value in (found.mass, found.uniform, found.share))
    assert kept == 12 * 3 * (2 * 3 + 2)
    assert passes == [(3, 12)] * 4


def planted(scores, uniform=0.1):
    """Relevance of one pattern with the same scores [L, H] in every one of two documents."""
    one = torch.tensor(scores, dtype=torch.float64)[None, None].expand(2, -1, -1, -1)
    return PatternMass(("p",), one, torch.full((2, 1), uniform).double(), torch.full((2, 1), 0.5).double())


def test_the_three_references_by_hand():
    random = (planted([[0.1, 0.2]]), planted([[0.3, 0.2]]))
    found = PatternRelevance(planted([[0.9, 0.4]]), random)
    assert found.heads_bar.tolist() == pytest.approx([0.65 + 3 * 0.5 * 2**-0.5])
    assert found.random_bar.tolist() == pytest.approx([0.2 + 3 * (0.02 / 3) ** 0.5])
    assert found.uniform.tolist() == pytest.approx([0.1])
    assert found.significant.tolist() == [[[True, False]]]  # 0.4 is more than three times even attention, but not 0.445
    assert found.kept == ["p"]
    assert found.ranked("p") == [((0, 0), pytest.approx(0.9))]
    even = PatternRelevance(planted([[0.9, 0.4]], uniform=0.31), random)
    assert even.kept == []  # three times even attention is 0.93
    without = PatternRelevance(planted([[0.9, 0.4]]))
    assert without.kept == []
    assert without.to_table()["significant"].to_pylist() == [None, None]


def test_standard_errors_and_documents_are_those_of_the_documents():
    values = torch.tensor([0.2, 0.6, 0.4, torch.nan]).double()
    mass = PatternMass(("p",), values[:, None, None, None], values[:, None], torch.ones(4, 1).double())
    found = PatternRelevance(mass)
    assert found.scores.item() == pytest.approx(0.4)
    assert found.standard_error.item() == pytest.approx((0.04 / 3) ** 0.5)
    assert [number for number, _ in found.documents("p", (0, 0))] == [1, 2, 0]
    assert [number for number, _ in found.documents("p", (0, 0), highest=False, count=2)] == [0, 2]


def test_random_models_are_drawn_by_seed_and_leave_the_generator_alone(bert, texts):
    state = torch.get_rng_state()
    one, again, other = (random_like(bert, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one(**texts).logits, again(**texts).logits)
    assert not torch.equal(one(**texts).logits, other(**texts).logits)


def test_heads_by_relevance_are_found_and_injected(bert, texts, tmp_path):
    taught = inject(bert, None, injected({"prev": PREVIOUS}, {"1.2": "prev"}))  # a model with one head of the pattern
    relevance = pattern_relevance(Explainer(taught).adapter, [texts], predicates({"prev": {"offset": -1}}), seeds=())
    plain = measured(bert, texts, patterns={"prev": {"offset": -1}})
    relevance = PatternRelevance(relevance.mass, (plain,))
    assert relevance.ranked("prev")[0][0] == (1, 2)
    file = PatternFile.read(
        {"schema": 1, "patterns": {"prev": PREVIOUS}, "inject": {"assign": {"strategy": "by_relevance", "most": 1}}}
    )
    with pytest.raises(InputError, match="needs the patterns' relevance, measured first"):
        inject(bert, None, file)
    changed = inject(bert, None, file, relevance=relevance)
    assert changed.config.head_patterns["inject"]["assign"] == {"strategy": "map", "heads": {"1.2": "prev"}}
    relevance.save(tmp_path / "relevance.safetensors")
    again = PatternRelevance.load(tmp_path / "relevance.safetensors")
    assert (again.names, again.queries) == (relevance.names, relevance.queries)
    assert torch.equal(again.significant, relevance.significant)
    assert torch.equal(again.mass.mass, relevance.mass.mass)
    relevance.save_table(tmp_path / "relevance.parquet")
    rows = pq.read_table(tmp_path / "relevance.parquet").to_pylist()
    assert [row["relevance"] for row in rows] == pytest.approx(relevance.scores.flatten().tolist())
    assert "prev: best 1.2" in relevance.describe()[0]


def test_evaluation_is_of_every_pattern_at_once(texts):
    tokens = Tokens.of(texts)
    holds = evaluate(predicates(), tokens)
    assert holds.shape == (3, 3, 12, 12)
    assert not holds[1, :, 7:].any()
    assert not holds[1, :, :, 7:].any()


def test_what_is_wrong_is_named(bert, texts):
    with pytest.raises(InputError, match="give at least one batch"):
        measured(bert)
    with pytest.raises(InputError, match=r"queries=some .* all, applicable"):
        PatternRelevance(measured(bert, texts), queries="some").scores  # noqa: B018


def test_files_without_relevance_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist; measure patterns first"):
        PatternRelevance.load(tmp_path / "no.safetensors")
    (tmp_path / "other").write_bytes(b"nothing")
    save_file({"x": torch.ones(1)}, tmp_path / "foreign")
    for name in ("other", "foreign"):
        with pytest.raises(InputError, match="holds no measured patterns"):
            PatternRelevance.load(tmp_path / name)
