"""A model that adds up one weight for each token, so that what a metric of it is worth can be worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor

from attribution.model.inputs import Inputs

PAD, UNK, CLS, SEP, MASK = 0, 1, 2, 3, 4
FIRST_WORD = 10


class BagOfTokens:
    """A classifier of two classes that reads the sum of the `weights` [V] of the tokens attended to.

    link: the sum is class 1's `probability`, or its `logit`; class 0 has the rest, or logit 0. For the task
    `question_answering` an answer starts and ends at the token of the largest weight that is no special one. Stands in
    for an explainer and its adapter where copies are run. Tokens below FIRST_WORD are special, or stand for words.
    """

    causal, multi_label, device, dtype = False, False, torch.device("cpu"), torch.float64
    pad_id, unk_id, mask_id, start_id = PAD, UNK, MASK, None

    def __init__(self, weights: Tensor, link: str = "probability", task: str = "classification") -> None:
        self.weights, self.link, self.task = weights.to(torch.float64), link, task
        self.model = SimpleNamespace(config=SimpleNamespace(), parameters=lambda: iter([self.weights]))
        self.family = SimpleNamespace(positions_after_padding=False)
        self.adapter, self.memory = self, None

    def logits(self, inputs: Inputs, columns: Tensor | None = None) -> Tensor:
        """Logits [B, 2], or [B, N, 2] of start and end."""
        if self.task == "question_answering":
            own = torch.where(self.special_tokens(inputs), -10, self.weights[inputs.input_ids])
            return torch.stack((own, own), 2)
        total = (self.weights[inputs.input_ids] * inputs.attention_mask).sum(1)
        return torch.stack((torch.zeros_like(total), total.logit() if self.link == "probability" else total), 1)

    def special_tokens(self, inputs: Inputs) -> Tensor:
        """Bool [B, N]: special tokens and padding."""
        return torch.isin(inputs.input_ids, torch.tensor([PAD, CLS, SEP])) | (inputs.attention_mask == 0)


def text_batch(words: list[list[int]], width: int | None = None) -> Inputs:
    """Texts of word ids between CLS and SEP as a right-padded batch."""
    rows = [[CLS, *own, SEP] for own in words]
    width = width or max(map(len, rows))
    ids = torch.tensor([row + [PAD] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return Inputs.of(ids, mask)
