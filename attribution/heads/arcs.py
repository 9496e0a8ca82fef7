"""How often each head's answer is the other end of a dependency arc, as counts that add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.nn.utils.rnn import pad_sequence

from attribution.heads.alignment import AlignedSentence, Integers, Sentence, align
from attribution.heads.roles import answer
from attribution.model.inputs import Inputs

if TYPE_CHECKING:
    from attribution.model.adapter import ModelAdapter

_ELEMENTS = 2**25  # attention weights of one batch, over all layers and heads
_MAX_BATCH = 64
ANY_SUBTYPE = "*"


@dataclass(frozen=True)
class ArcCounts:
    """Arcs of some relations in a treebank, and how many of them each head finds. Counts of treebanks add up.

    `hits` [R, 2, L, H]: arcs found in both directions, of `arcs` [R] that were looked for. `offsets` of each relation:
    governor - dependent in words, of every arc. `names`: all words of the treebank by their relation.
    """

    relations: tuple[str, ...]
    hits: Tensor
    arcs: Tensor
    offsets: Mapping[str, Counter[int]]
    names: Counter[str]
    sentences: int
    skipped: Counter[str]

    def __add__(self, other: ArcCounts) -> ArcCounts:
        if self.relations != other.relations:
            raise ValueError(f"counts of {self.relations} and of {other.relations} do not add up")
        return ArcCounts(
            self.relations,
            self.hits + other.hits,
            self.arcs + other.arcs,
            {relation: self.offsets[relation] + other.offsets[relation] for relation in self.relations},
            self.names + other.names,
            self.sentences + other.sentences,
            self.skipped + other.skipped,
        )


class Arcs(NamedTuple):
    """Arcs of a batch [A]: relation (index), row of the batch, dependent and governor (0-based words)."""

    relation: Tensor
    row: Tensor
    dependent: Tensor
    governor: Tensor


def count_arcs(
    adapter: ModelAdapter,
    treebank: Sequence[Sentence],
    relations: Sequence[str],
    argmax: str = "words",
    reading: str = "row",
) -> ArcCounts:
    """The counts of all heads of a model on a treebank; relations match exactly, `nsubj:pass` is `nsubj*`, no `nsubj`.

    `reading="column"`: a head finds an arc where its one end looks at the other more than any other word does.
    """
    aligned, skipped = align(adapter, treebank)
    hits = torch.zeros(len(relations), 2, adapter.n_layers, adapter.n_heads, dtype=torch.long)
    count = torch.zeros(len(relations), dtype=torch.long)
    for batch in _batches(aligned, adapter.n_layers * adapter.n_heads):
        arcs, without_token = collect_arcs(batch, relations)
        skipped["arcs at words without a token of their own"] += without_token
        if len(arcs.relation):
            hits += _batch_hits(adapter, batch, arcs, hits.shape, READINGS[reading, argmax])
            count += torch.bincount(arcs.relation, minlength=len(relations))
    names = Counter(name for sentence in treebank for name in sentence[3])
    offsets = {relation: governor_offsets(treebank, relation) for relation in relations}
    return ArcCounts(tuple(relations), hits, count, offsets, names, len(treebank), skipped)


def governor_offsets(treebank: Sequence[Sentence], relation: str) -> Counter[int]:
    """How often each offset governor - dependent, in words, occurs among the arcs of a relation."""
    return Counter(
        governor - dependent
        for _, _, governors, names in treebank
        for dependent, (governor, name) in enumerate(zip(governors, names, strict=True), start=1)
        if relation in spellings(name) and governor > 0
    )


def spellings(name: str) -> tuple[str, str]:
    """What a relation of a tree is counted as: its own name, and that of all with the same first part, `nsubj*`."""
    return name, f"{name.partition(':')[0]}{ANY_SUBTYPE}"


def _batches(sentences: Sequence[AlignedSentence], heads: int) -> Iterator[list[AlignedSentence]]:
    """Sentences of about equal length together, shortest first, as many as the attention weights allow."""
    batch: list[AlignedSentence] = []
    for sentence in sorted(sentences, key=lambda s: len(s.word_of)):
        room = _ELEMENTS // (heads * len(sentence.word_of) ** 2)
        if batch and len(batch) >= min(room, _MAX_BATCH):
            yield batch
            batch = []
        batch.append(sentence)
    if batch:
        yield batch


def collect_arcs(batch: Sequence[AlignedSentence], relations: Sequence[str]) -> tuple[Arcs, int]:
    """The arcs of these relations whose two words have a first token each, and how many have not."""
    index = {relation: number for number, relation in enumerate(relations)}
    arcs = [
        (index[spelled], row, dependent, int(governor))
        for row, sentence in enumerate(batch)
        for dependent, (governor, name) in enumerate(zip(sentence.governors, sentence.relations, strict=True))
        for spelled in spellings(name)
        if spelled in index and governor >= 0
    ]
    whole = [a for a in arcs if batch[a[1]].first[a[2]] >= 0 and batch[a[1]].first[a[3]] >= 0]
    return Arcs(*torch.tensor(whole, dtype=torch.long).reshape(-1, 4).T), len(arcs) - len(whole)


def _batch_hits(
    adapter: ModelAdapter, batch: Sequence[AlignedSentence], arcs: Arcs, shape: torch.Size, find: Find
) -> Tensor:
    """Arcs found by each head in each direction, by relation [R, 2, L, H]."""
    inputs = _inputs(adapter, batch)
    word_of = _stacked([sentence.word_of for sentence in batch]).to(adapter.device)
    first = _stacked([sentence.first for sentence in batch]).to(adapter.device)
    words = Words(word_of, first)
    relation, row, dependent, governor = (column.to(adapter.device) for column in arcs)
    hits = torch.zeros(shape, dtype=torch.long, device=adapter.device)
    for layer, attention in enumerate(adapter.attentions(inputs)):
        found = find(attention, words, row, (dependent, governor))
        for direction, hit in enumerate(found):
            hits[:, direction, layer].index_add_(0, relation, hit.long())
    return hits.cpu()


class Words(NamedTuple):
    """The words of a batch: that of each token [B, N] and the first token of each [B, W], -1 where there is none."""

    word_of: Tensor
    first: Tensor


Ends = tuple[Tensor, Tensor]  # words [A] of arcs: dependents and governors
Find = Callable[[Tensor, Words, Tensor, Ends], Iterator[Tensor]]  # -> bool [A, H] for each direction


def _by_word(attention: Tensor, words: Words, row: Tensor, ends: Ends) -> Iterator[Tensor]:
    weights = _word_columns(attention, words.word_of, words.first.shape[1])
    for here, there in (ends, ends[::-1]):
        yield _other_word(weights[row, :, words.first[row, here]], here) == there[:, None]


def _by_token(attention: Tensor, words: Words, row: Tensor, ends: Ends) -> Iterator[Tensor]:
    for here, there in (ends, ends[::-1]):
        yield _token_word(attention[row, :, words.first[row, here]], words.word_of[row]) == there[:, None]


def _by_column(attention: Tensor, words: Words, row: Tensor, ends: Ends) -> Iterator[Tensor]:
    weights = _word_columns(attention, words.word_of, words.first.shape[1])
    rows = words.first.clamp(min=0)[:, None, :, None].expand(-1, weights.shape[1], -1, weights.shape[3])
    between = weights.gather(2, rows) * (words.first >= 0)[:, None, :, None]  # [B, H, W, W]
    for here, there in (ends, ends[::-1]):
        yield _other_word(between[row, :, :, there], there) == here[:, None]


READINGS: dict[tuple[str, str], Find] = {
    ("row", "words"): _by_word,
    ("row", "tokens"): _by_token,
    ("column", "words"): _by_column,
}


def _word_columns(attention: Tensor, word_of: Tensor, words: int) -> Tensor:
    """The columns of each word's tokens added up, special tokens left out: [B, H, N, N] -> [B, H, N, W]."""
    index = torch.where(word_of < 0, words, word_of)
    belongs = one_hot(index, words + 1)[..., :words].to(attention.dtype)
    return attention @ belongs[:, None]


def _other_word(rows: Tensor, own: Tensor) -> Tensor:
    """The word other than its own with the largest of the weights [A, H, W], -1 for none."""
    return answer(rows.scatter(2, own[:, None, None].expand(-1, rows.shape[1], 1), 0))


def _token_word(rows: Tensor, word_of: Tensor) -> Tensor:
    """The word of the one token that each row [A, H, N] looks at, -1 for none and for special tokens."""
    token = answer(rows)
    return torch.where(token < 0, -1, word_of.gather(1, token.clamp(min=0)))


def _inputs(adapter: ModelAdapter, batch: Sequence[AlignedSentence]) -> Inputs:
    columns = {}
    for name in batch[0].encoding:
        fill = adapter.pad_id or 0 if name == "input_ids" else 0
        columns[name] = _stacked([np.asarray(sentence.encoding[name]) for sentence in batch], fill)
    return Inputs.from_mapping(columns).to(adapter.device)


def _stacked(rows: Sequence[Integers], fill: int = -1) -> Tensor:
    return pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True, padding_value=fill)
