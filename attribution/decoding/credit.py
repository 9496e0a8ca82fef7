"""How much of each token of a text is in what each position decodes to."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from attribution.decoding.head import LanguageModelHead

MOST_LOGITS = 2**25  # numbers over the vocabulary that are held at a time
NEAR = 10  # a token is recovered where it is among so many highest-ranked

# Logits z [M, N] of a text's tokens, and all logits of these positions [M, V] -> by how much they count, [M, N]
Normalise = Callable[[Tensor, Tensor], Tensor]
NORMALISATIONS: dict[str, Normalise] = {
    "softmax": lambda z, over: (z - over.logsumexp(-1, keepdim=True)).exp(),
    "unit": lambda z, over: z / over.masked_fill(over == -torch.inf, 0).norm(dim=-1, keepdim=True),
    "logits": lambda z, over: z,
}
WEIGHTS = ("value", "rank")


class Credit(NamedTuple):
    """By how much position n (dimension 1) decodes to token i (dimension 2), and whether it decodes to any.

    credit: [B, N, N], 0 where token i is not among the tau highest-ranked of position n, or either is padding.
    own, any: bool [B, N], whether the ten highest-ranked of a position hold its own token, or one of the text; None
    where only the text's own tokens were ranked. first: bool [B, N], whether its own comes first among the text's.
    """

    credit: Tensor
    first: Tensor
    own: Tensor | None = None
    any: Tensor | None = None


class Reading(NamedTuple):
    """How decoded positions are read: the tau highest-ranked tokens (None: all), normalised so, weighted so."""

    tau: int | None = 10
    normalise: str = "softmax"
    weight: str = "value"


def full_credit(
    head: LanguageModelHead, hidden: Tensor, ids: Tensor, visible: Tensor, words: Tensor, reading: Reading
) -> Credit:
    """Credit where every position is decoded to the whole vocabulary. Only positions in sight are decoded.

    hidden: [B, N, D]; ids: [B, N]; visible, words: bool [B, N], words being the tokens that are not special.
    """
    rows, places = visible.nonzero(as_tuple=True)
    wanted, targets = ids[rows], words[rows]
    size = max(1, MOST_LOGITS // head.vocabulary)
    pieces = [
        _decoded(head.logits(states), tokens, own, those, reading)
        for states, tokens, own, those in zip(
            *(torch.split(x, size) for x in (hidden[rows, places], wanted, places, targets)), strict=True
        )
    ]
    found = [torch.cat(each) for each in zip(*pieces, strict=True)]
    credit, first, own, some = (_placed(each, visible, rows, places) for each in found)
    return Credit(credit * visible.unsqueeze(1), first, own, some)


def _decoded(logits: Tensor, ids: Tensor, places: Tensor, words: Tensor, reading: Reading) -> tuple[Tensor, ...]:
    """Credit [M, N] of M decoded positions, and whether each has its own token first or near, and any of the text."""
    z, n = logits.gather(1, ids), logits.shape[1]
    most = max(NEAR, reading.tau or 0)
    ranked = logits.topk(min(most, n), dim=1).values
    near = z >= ranked[:, min(NEAR, n) - 1, None]
    own = places[:, None]
    first = (z.gather(1, own) >= ranked[:, :1])[:, 0]
    return _weighed(z, logits, ranked, reading), first, near.gather(1, own)[:, 0], (near & words).any(1)


def _weighed(z: Tensor, over: Tensor, ranked: Tensor, reading: Reading) -> Tensor:
    """What counts of z, as the reading says; ranked: the highest of `over`, in order, at least tau of them or all."""
    tau, every = reading.tau, over.shape[-1]
    kept = torch.ones_like(z, dtype=torch.bool) if tau is None or tau >= every else z >= ranked[..., tau - 1, None]
    value = torch.ones_like(z) if reading.weight == "rank" else NORMALISATIONS[reading.normalise](z, over)
    return value * kept


def _placed(found: Tensor, visible: Tensor, rows: Tensor, places: Tensor) -> Tensor:
    """[B, N, ...] of what was found at the positions in sight, 0 elsewhere."""
    whole = found.new_zeros((*visible.shape, *found.shape[1:]))
    whole[rows, places] = found
    return whole


def restricted_credit(
    head: LanguageModelHead, hidden: Tensor, ids: Tensor, visible: Tensor, words: Tensor, reading: Reading
) -> Credit:
    """Credit where positions are decoded to the tokens of their own text alone, each of them counted once."""
    z = head.logits_of(hidden, ids)
    over = z.masked_fill(~first_occurrences(ids, visible).unsqueeze(1), -torch.inf)
    ranked = over.topk(min(reading.tau or 1, over.shape[-1]), dim=-1).values
    first = z.diagonal(dim1=1, dim2=2) >= ranked[..., 0]
    both = visible.unsqueeze(1) & visible.unsqueeze(2)
    return Credit(_weighed(z, over, ranked, reading).masked_fill(~both, 0), first & visible)


def first_occurrences(ids: Tensor, visible: Tensor) -> Tensor:
    """Bool [B, N]: tokens in sight that do not stand further left in their text."""
    same = (ids.unsqueeze(2) == ids.unsqueeze(1)) & visible.unsqueeze(1)
    return visible & ~same.tril(-1).any(2)


def vocabulary_scores(
    head: LanguageModelHead, hidden: Tensor, saliency: Tensor, visible: Tensor, reading: Reading
) -> Tensor:
    """[B, V] what the positions in sight, weighted by their saliency [B, N], decode to."""
    total = hidden.new_zeros((len(hidden), head.vocabulary), dtype=head.weight.dtype)
    for row in range(len(hidden)):
        logits = head.logits(hidden[row, visible[row]])
        ranked = logits.topk(min(reading.tau or 1, head.vocabulary), dim=1).values
        total[row] = saliency[row, visible[row]].to(total.dtype) @ _weighed(logits, logits, ranked, reading)
    return total
