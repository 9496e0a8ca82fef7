"""Models whose curves are known in closed form."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

CLS, SEP, PAD, UNK, MASK = 2, 3, 0, 1, 4


class BagOfWords:
    """A classifier whose probability of class 1 is the sum of the weights of the attended tokens."""

    task, causal, multi_label, device = "classification", False, False, torch.device("cpu")
    pad_id, unk_id, mask_id, start_id = PAD, UNK, MASK, None

    def __init__(self, weights):
        self.weights = torch.as_tensor(weights, dtype=torch.float64)
        self.model = SimpleNamespace(config=SimpleNamespace())
        self.family = SimpleNamespace(positions_after_padding=False)
        self.n_rows = 0

    def logits(self, inputs, columns=None):
        self.n_rows += len(inputs.input_ids)
        p = (self.weights[inputs.input_ids] * inputs.attention_mask).sum(1)
        return torch.stack((torch.zeros_like(p), p.logit()), 1)

    def special_tokens(self, inputs):
        return torch.isin(inputs.input_ids, torch.tensor([PAD, CLS, SEP])) | (inputs.attention_mask == 0)


@pytest.fixture
def bag_of_words():
    """CLS gives 0.05; the words 10 to 19 give 0.01 to 0.10 less a half, MASK and the like nothing."""
    weights = torch.zeros(20)
    weights[CLS] = 0.05
    weights[10:20] = torch.arange(1, 11) / 100
    return SimpleNamespace(adapter=BagOfWords(weights), memory=None)
