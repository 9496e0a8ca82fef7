"""Heads that follow a dependency relation, from the dependent to its governor or back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.nn.utils.rnn import pad_sequence

from attribution.errors import InputError
from attribution.heads.alignment import AlignedSentence, Integers, Sentence, align
from attribution.heads.roles import DIRECTIONS, answer, syntactic_role
from attribution.heads.scores import HeadScores
from attribution.model.inputs import Inputs

if TYPE_CHECKING:
    from attribution.explainer import Explainer
    from attribution.model.adapter import ModelAdapter

RELATIONS = ("nsubj", "obj", "amod", "advmod")
ARGMAX = ("words", "tokens")
MIN_COUNT = 100  # fewer arcs say too little to beat a baseline by a margin
_ELEMENTS = 2**25  # attention weights of one batch, over all layers and heads
_MAX_BATCH = 64


class Arcs(NamedTuple):
    """Arcs of a batch [A]: relation (index), row of the batch, dependent and governor (0-based words)."""

    relation: Tensor
    row: Tensor
    dependent: Tensor
    governor: Tensor


@dataclass(frozen=True)
class Accuracy:
    """How often each head finds the other end: `share` [R, 2, L, H] of `count` [R] arcs, both directions."""

    share: Tensor
    count: Tensor
    baseline: list[float]
    skipped: Counter[str]


def syntactic_heads(
    explainer: Explainer,
    treebank: Sequence[Sentence],
    *,
    report: Sequence[Sentence] | None = None,
    relations: Sequence[str] = RELATIONS,
    margin: float = 0.10,
    thresholds: Mapping[str, float] | None = None,
    argmax: str = "words",
    min_count: int = MIN_COUNT,
) -> HeadScores:
    """Heads that find a word's governor or dependent (roles `syntactic:nsubj:dep->head`, ...) on `treebank`.

    A word's row is that of its first token. `argmax="words"`: the answer is the other word with the largest summed
    weight (Clark et al. 2019); `"tokens"`: the word of the largest single weight, special tokens and the word itself
    included, as Mask-LRP does, though matched by index and not by spelling. A head is selected if its accuracy exceeds
    that of the relation's most frequent offset by more than `margin` (Voita et al. 2019) on at least `min_count` arcs,
    or simply exceeds `thresholds[relation]` where one is given. `report` is a treebank that selects nothing.
    """
    limits = dict(thresholds or {})
    _check(relations, limits, argmax)
    found = head_accuracy(explainer.adapter, treebank, relations, argmax)
    told = None if report is None else head_accuracy(explainer.adapter, report, relations, argmax)
    roles = {syntactic_role(r, d): (i, j) for i, r in enumerate(relations) for j, d in enumerate(DIRECTIONS)}
    bars = [limits.get(r, base + margin) for r, base in zip(relations, found.baseline, strict=True)]
    enough = [r in limits or int(found.count[i]) >= min_count for i, r in enumerate(relations)]
    return HeadScores(
        scores={role: found.share[at] for role, at in roles.items()},
        baseline={role: found.baseline[i] for role, (i, _) in roles.items()},
        count={role: int(found.count[i]) for role, (i, _) in roles.items()},
        selected={role: (found.share[i, j] > bars[i]) & enough[i] for role, (i, j) in roles.items()},
        report={role: None if told is None else told.share[at] for role, at in roles.items()},
        skipped=found.skipped + Counter({f"{what} (report)": n for what, n in told.skipped.items()} if told else {}),
    )


def _check(relations: Sequence[str], limits: Mapping[str, float], argmax: str) -> None:
    if isinstance(relations, str) or not relations or len(set(relations)) < len(relations):
        raise InputError(f"conf error: heads.relations={relations} must list each relation once, at least one.")
    if unknown := sorted(set(limits) - set(relations)):
        choices = ", ".join(relations)
        raise InputError(f"conf error: heads.thresholds.{unknown[0]} is not among heads.relations: {choices}.")
    if argmax not in ARGMAX:
        raise InputError(f"conf error: heads: argmax={argmax} is not known; choose {', '.join(ARGMAX)}.")


def offset_baseline(treebank: Sequence[Sentence], relation: str) -> tuple[int, float]:
    """The most frequent offset governor - dependent of a relation in words, and its share of the relation's arcs.

    The share is the baseline in both directions. (0, 0.0) where the relation does not occur.
    """
    offsets = Counter(
        governor - dependent
        for _, _, governors, names in treebank
        for dependent, (governor, name) in enumerate(zip(governors, names, strict=True), start=1)
        if name == relation and governor > 0
    )
    # of equally frequent offsets the shortest, so that the order of the sentences does not matter
    offset, hits = max(offsets.items(), key=lambda item: (item[1], -abs(item[0]), item[0]), default=(0, 0))
    return offset, hits / max(offsets.total(), 1)


def head_accuracy(
    adapter: ModelAdapter, treebank: Sequence[Sentence], relations: Sequence[str], argmax: str = "words"
) -> Accuracy:
    """The accuracy of all heads of a model on a treebank; relations match exactly, `nsubj:pass` is no `nsubj`."""
    aligned, skipped = align(adapter, treebank)
    hits = torch.zeros(len(relations), 2, adapter.n_layers, adapter.n_heads, dtype=torch.long)
    count = torch.zeros(len(relations), dtype=torch.long)
    for batch in _batches(aligned, adapter.n_layers * adapter.n_heads):
        arcs, without_token = collect_arcs(batch, relations)
        skipped["arcs at words without a token of their own"] += without_token
        if len(arcs.relation):
            hits += _batch_hits(adapter, batch, arcs, hits.shape, argmax)
            count += torch.bincount(arcs.relation, minlength=len(relations))
    if not count.any():
        raise InputError(_nothing(relations, treebank, skipped))
    baseline = [offset_baseline(treebank, relation)[1] for relation in relations]
    return Accuracy(hits / count.clamp(min=1).double()[:, None, None, None], count, baseline, skipped)


def _nothing(relations: Sequence[str], treebank: Sequence[Sentence], skipped: Counter[str]) -> str:
    common = Counter(name for sentence in treebank for name in sentence[3]).most_common(12)
    left_out = ", ".join(f"{number} {what}" for what, number in skipped.items() if number) or "nothing"
    return (
        f"conf error: heads.relations={','.join(relations)} cannot be counted on this treebank of {len(treebank)} "
        f"sentences (left out: {left_out}). Its relations are: {', '.join(name for name, _ in common)}."
    )


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
        (index[name], row, dependent, int(governor))
        for row, sentence in enumerate(batch)
        for dependent, (governor, name) in enumerate(zip(sentence.governors, sentence.relations, strict=True))
        if name in index and governor >= 0
    ]
    whole = [a for a in arcs if batch[a[1]].first[a[2]] >= 0 and batch[a[1]].first[a[3]] >= 0]
    return Arcs(*torch.tensor(whole, dtype=torch.long).reshape(-1, 4).T), len(arcs) - len(whole)


def _batch_hits(
    adapter: ModelAdapter, batch: Sequence[AlignedSentence], arcs: Arcs, shape: torch.Size, argmax: str
) -> Tensor:
    """Arcs found by each head in each direction, by relation [R, 2, L, H]."""
    inputs = _inputs(adapter, batch)
    word_of = _stacked([sentence.word_of for sentence in batch]).to(adapter.device)
    first = _stacked([sentence.first for sentence in batch]).to(adapter.device)
    relation, row, dependent, governor = (column.to(adapter.device) for column in arcs)
    hits = torch.zeros(shape, dtype=torch.long, device=adapter.device)
    for layer, attention in enumerate(adapter.attentions(inputs)):
        weights = _word_columns(attention, word_of, first.shape[1]) if argmax == "words" else attention
        for direction, (here, there) in enumerate(((dependent, governor), (governor, dependent))):
            rows = weights[row, :, first[row, here]]
            found = _other_word(rows, here) if argmax == "words" else _token_word(rows, word_of[row])
            hits[:, direction, layer].index_add_(0, relation, (found == there[:, None]).long())
    return hits.cpu()


def _word_columns(attention: Tensor, word_of: Tensor, words: int) -> Tensor:
    """The columns of each word's tokens added up, special tokens left out: [B, H, N, N] -> [B, H, N, W]."""
    index = torch.where(word_of < 0, words, word_of)
    belongs = one_hot(index, words + 1)[..., :words].to(attention.dtype)
    return attention @ belongs[:, None]


def _other_word(rows: Tensor, own: Tensor) -> Tensor:
    """The word other than its own that each row [A, H, W] looks at, -1 for none."""
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
