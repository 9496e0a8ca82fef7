"""Models whose heads do what a test says: attention is given, not computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import torch

from attribution.heads.alignment import locate_words
from attribution.model.inputs import Inputs

CLS, SEP = 1, 2


class PlantedAdapter:
    """One layer of heads; each gives weights [N, N] for the ids [N] of a text without padding."""

    device, pad_id, start_id, n_layers, max_length = torch.device("cpu"), 0, None, 1, 512

    def __init__(self, *heads: Callable[[torch.Tensor], torch.Tensor], tokenizer=None, causal: bool = False):
        self.heads, self.n_heads, self.tokenizer, self.causal = heads, len(heads), tokenizer, causal
        self.model = SimpleNamespace(config=SimpleNamespace(vocab_size=60))

    def special_tokens(self, inputs: Inputs) -> torch.Tensor:
        return (inputs.attention_mask == 0) | (inputs.input_ids == CLS) | (inputs.input_ids == SEP)

    def attentions(self, inputs: Inputs) -> list[torch.Tensor]:
        rows, length = inputs.shape
        found = torch.zeros(rows, self.n_heads, length, length, dtype=torch.float64)
        for row, mask in enumerate(inputs.attention_mask.bool()):
            at = mask.nonzero()[:, 0]
            for number, head in enumerate(self.heads):
                found[row, number, at[:, None], at] = self._distribution(head(inputs.input_ids[row, at]))
        return [found]

    def _distribution(self, weights: torch.Tensor) -> torch.Tensor:
        weights = weights.double()
        weights = weights.tril() if self.causal else weights
        return weights / weights.sum(1, keepdim=True)


def planted(*heads, tokenizer=None, causal=False) -> SimpleNamespace:
    """An explainer of such a model."""
    return SimpleNamespace(adapter=PlantedAdapter(*heads, tokenizer=tokenizer, causal=causal))


def even(ids: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(ids), len(ids))


def at(offset: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Looks at one offset, evenly where no token stands there."""

    def head(ids: torch.Tensor) -> torch.Tensor:
        place = torch.arange(len(ids))
        weights = (place[None] - place[:, None] == offset).double()
        return torch.where(weights.any(1, keepdim=True), weights, 1.0)

    return head


def to(*tokens: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Looks at these tokens, evenly where there are none."""

    def head(ids: torch.Tensor) -> torch.Tensor:
        chosen = torch.isin(ids, torch.tensor(tokens)).double().expand(len(ids), -1)
        return torch.where(chosen.any(1, keepdim=True), chosen, 1.0)

    return head


class OneTokenAWord:
    """Reads the sentences of a treebank as a token for each word between [CLS] and [SEP].

    An id says which word of which sentence it is, so that a planted head knows the tree.
    """

    is_fast = True
    all_special_ids = (0, CLS, SEP)
    cls_token_id, sep_token_id = CLS, SEP
    model_max_length = 512

    def __init__(self, treebank: Sequence[tuple]):
        self.treebank = treebank
        self.number = {sentence[0]: i for i, sentence in enumerate(treebank)}

    def get_vocab(self) -> dict[str, int]:
        return {}

    def __call__(self, texts: Sequence[str], **_) -> dict[str, list]:
        found: dict[str, list] = {"input_ids": [], "attention_mask": [], "offset_mapping": []}
        for text in texts:
            words = self.treebank[self.number[text]][1]
            ids = [self.number[text] * 1000 + 10 + i for i in range(len(words))]
            found["input_ids"].append([CLS, *ids, SEP])
            found["attention_mask"].append([1] * (len(words) + 2))
            found["offset_mapping"].append([(0, 0), *locate_words(text, words), (0, 0)])
        return found

    def sentence(self, ids: torch.Tensor) -> tuple:
        return self.treebank[(int(ids[1]) - 10) // 1000]


def noisy(generator: torch.Generator, ids: torch.Tensor) -> torch.Tensor:
    return torch.rand(len(ids), len(ids), generator=generator)


def follower(tokenizer: OneTokenAWord, relation: str, direction: str, seed: int = 0, weight: float = 5.0):
    """Noise of 0 to 1, and `weight` from one end of each arc of a relation to the other."""
    generator = torch.Generator().manual_seed(seed)

    def head(ids: torch.Tensor) -> torch.Tensor:
        weights = noisy(generator, ids)
        _, _, governors, names = tokenizer.sentence(ids)
        for dependent, (governor, name) in enumerate(zip(governors, names, strict=True), start=1):
            if name == relation and governor:
                pair = (dependent, governor) if direction == "dep->head" else (governor, dependent)
                weights[pair] = weight
        return weights

    return head


def leaning(offset: int, seed: int = 0, weight: float = 5.0):
    """Noise of 0 to 1, and `weight` at an offset."""
    generator = torch.Generator().manual_seed(seed)

    def head(ids: torch.Tensor) -> torch.Tensor:
        place = torch.arange(len(ids))
        return torch.where(place[None] - place[:, None] == offset, weight, noisy(generator, ids))

    return head
