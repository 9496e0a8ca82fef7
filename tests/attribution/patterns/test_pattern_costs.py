from __future__ import annotations

import pytest
import torch
from injected import PREVIOUS, injected
from tiny_models import tiny_model

from attribution.patterns import inject
from attribution.patterns.costs import costs, left_out, products

LENGTH = 10


@pytest.fixture
def text():
    return {"input_ids": torch.arange(5, 5 + LENGTH)[None], "attention_mask": torch.ones(1, LENGTH, dtype=torch.long)}


def test_products_of_a_model_by_hand(text):
    """Two operations for each multiply-add: 3 blocks of width 32 and inner width 64, a pooler, two classes."""
    block = 4 * LENGTH * 32 * 32 + 2 * LENGTH * LENGTH * 32 + 2 * LENGTH * 32 * 64
    wanted = 2 * (3 * block + 32 * 32 + 32 * 2)
    model = tiny_model("bert", torch.float32)
    assert products(lambda: model(**text)) == wanted


def test_fixed_patterns_save_no_operation_and_are_sparse(text):
    model = tiny_model("bert", torch.float32)
    file = injected({"prev": PREVIOUS}, {"0.1": "prev", "0.2": "prev", "2.0": "prev"})
    found = costs({"base": model, "patterns": inject(model, None, file)}, [text, text])
    assert [cost.sparsity for cost in found["base"]] == [0, 0]
    by_hand = 3 / 12 * (1 - LENGTH / LENGTH**2)  # one key for each query in three of twelve heads
    assert [cost.sparsity for cost in found["patterns"]] == pytest.approx([by_hand] * 2)
    assert {cost.flops for arm in found.values() for cost in arm} == {found["base"][0].flops}
    assert all(cost.seconds > 0 for arm in found.values() for cost in arm)


def test_projected_attention_costs_operations_and_its_heads_count(text):
    model = tiny_model("bert", torch.float32)
    changed = inject(model, None, injected({"prev": PREVIOUS}, target="pal", pal={"width": 8, "heads": 4}))
    plain, beside = (costs({"one": each}, [text])["one"][0] for each in (model, changed))
    added = 3 * (2 * LENGTH * 32 * 8 + 3 * LENGTH * 8 * 8 + 2 * LENGTH * LENGTH * 8)
    assert beside.flops - plain.flops == 2 * added
    assert left_out(changed, text) == pytest.approx(3 / (12 + 12) * (1 - 1 / LENGTH))


def test_models_are_left_as_they_were(text):
    model = tiny_model("bert", torch.float32).train()
    costs({"one": model}, [text])
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
