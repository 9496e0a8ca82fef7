"""How much of each head's attention lies where each pattern holds, document by document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attribution.errors import InputError
from attribution.model.inputs import Inputs
from attribution.patterns.blocks import Predicate
from attribution.patterns.predicates import evaluate
from attribution.patterns.tokens import Tokens
from attribution.patterns.vocabulary import Vocabulary

if TYPE_CHECKING:
    from attribution.model.adapter import ModelAdapter

_ELEMENTS = 2**25  # attention weights of one pass, over all layers and heads
QUERIES = ("all", "applicable")
TENSORS = ("mass", "uniform", "share")


@dataclass(frozen=True)
class PatternMass:
    """Of each document: attention to keys for which a pattern holds, in the mean over its real queries.

    `mass` [D, P, L, H]; `uniform` [D, P]: the same of a head that attends evenly to all it sees; `share` [D, P]: of the
    queries, those for which the pattern allows any key. Masses of different documents add up to those of all.
    """

    names: tuple[str, ...]
    mass: Tensor
    uniform: Tensor
    share: Tensor

    def __len__(self) -> int:
        return len(self.mass)

    def over(self, queries: str) -> tuple[Tensor, Tensor]:
        """Mass [D, P, L, H] and that of an even head [D, P] in the mean over `all` queries, as in Li et al., or over
        the `applicable` ones, that have a key; NaN for documents that have none.
        """
        if queries not in QUERIES:
            raise InputError(f"conf error: queries={queries} is not known; choose {', '.join(QUERIES)}.")
        if queries == "all":
            return self.mass, self.uniform
        return self.mass / self.share[..., None, None], self.uniform / self.share


def measure(
    adapter: ModelAdapter,
    batches: Iterable[Mapping[str, Tensor]],
    patterns: Mapping[str, Predicate],
    *,
    vocabulary: Vocabulary | None = None,
    relations: Sequence[str] = (),
) -> PatternMass:
    """The mass of every head of a model in batches as a tokenizer returns them, each row a document.

    Attention is looked at pass by pass and forgotten: what is kept is one number for each document, pattern and head.
    vocabulary: that of the model's tokenizer. relations: names of the numbers in `relations` of batches with trees.
    """
    if vocabulary is None and adapter.tokenizer is not None:
        vocabulary = Vocabulary.of(adapter.tokenizer)
    found = []
    for rows in _passes(adapter, batches):
        tokens = Tokens.of(rows, vocabulary, causal=adapter.causal, relations=relations)
        found.append(mass_of(adapter.attentions(Inputs.from_mapping(rows)), patterns, tokens))
    if not found:
        raise InputError("conf error: patterns: there is no text to measure patterns on; give at least one batch.")
    return joined(found)


def mass_of(attentions: Sequence[Tensor], patterns: Mapping[str, Predicate], tokens: Tokens) -> PatternMass:
    """The mass of attention that is at hand, L times [B, H, N, N], each row a document."""
    return PatternMass(tuple(patterns), *_mass(attentions, evaluate(patterns, tokens), tokens))


def joined(parts: Sequence[PatternMass]) -> PatternMass:
    """The documents of several measurements of the same patterns, one after the other."""
    return PatternMass(parts[0].names, *(torch.cat([getattr(each, name) for each in parts]) for name in TENSORS))


def _passes(adapter: ModelAdapter, batches: Iterable[Mapping[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    """Rows of the batches on the model's device, as many at once as the attention weights allow."""
    for batch in batches:
        tensors = {name: value.to(adapter.device) for name, value in batch.items() if isinstance(value, Tensor)}
        rows, length = tensors["input_ids"].shape
        size = max(1, _ELEMENTS // (adapter.n_layers * adapter.n_heads * length**2))
        for start in range(0, rows, size):
            yield {name: value[start : start + size] for name, value in tensors.items()}


def _mass(attentions: Sequence[Tensor], holds: Tensor, tokens: Tokens) -> tuple[Tensor, Tensor, Tensor]:
    """Mass [B, P, L, H], that of an even head and the share of applicable queries [B, P], in double precision."""
    queries = tokens.real.sum(1)[:, None].double()
    seen = tokens.visible.sum(-1).clamp(min=1)
    even = (holds.sum(-1) / seen[:, None].double()).sum(-1) / queries
    share = holds.any(-1).sum(-1) / queries
    layers = [torch.einsum("bhij,bpij->bph", each.double(), holds.double()) for each in attentions]
    return (torch.stack(layers, 2) / queries[..., None, None]).cpu(), even.cpu(), share.cpu()
