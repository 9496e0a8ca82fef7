"""Heads that look at a fixed offset, whatever stands there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from attribution.errors import InputError
from attribution.heads.roles import answer, positional_role
from attribution.heads.scores import HeadScores
from attribution.model.inputs import Inputs

if TYPE_CHECKING:
    from attribution.explainer import Explainer

DENOMINATORS = ("applicable", "reference")
MIN_ROWS, MIN_SHARE = 100, 0.2  # an offset counts where so many rows, and this share of all rows, have the neighbour
SHOWN = range(-5, 6)  # offsets that are scored whether or not a head keeps to them


class OffsetCounts(NamedTuple):
    """Rows by offset = key - query; the last dimension is centred on offset 0.

    `hits` [L, H, 2N-1]: rows whose answer lies at the offset; `neighbours` [2N-1]: rows that have a neighbour there.
    """

    hits: Tensor
    neighbours: Tensor
    rows: int


def positional_heads(
    explainer: Explainer,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    threshold: float = 0.8,
    denominator: str = "applicable",
) -> HeadScores:
    """Heads whose largest weight lies at one offset in more than `threshold` of the rows (roles `positional:-1`, ...).

    Every token is a row, special tokens included, padding excluded; a row whose largest weight is shared looks nowhere.
    `denominator="applicable"` divides by the rows that have the neighbour, and an offset counts only where at least 100
    rows and 20 % of all rows have it; `"reference"` divides by all rows, as Mask-LRP does (section 1.4 of the paper's
    code; Voita et al. 2019 for the idea).
    """
    if denominator not in DENOMINATORS:
        choices = ", ".join(DENOMINATORS)
        raise InputError(f"conf error: heads.positional_denominator={denominator} is not known; choose {choices}.")
    counts = _count_all(explainer, batches)
    share, count, eligible = _frequencies(counts, denominator)
    selected = (share > threshold) & eligible
    reach = counts.neighbours.shape[0] // 2
    known = [o for o in range(-reach, reach + 1) if counts.neighbours[o + reach] > 0]
    told = {positional_role(o): o + reach for o in known if o in SHOWN or selected[..., o + reach].any()}
    return HeadScores(
        scores={role: share[..., column] for role, column in told.items()},
        baseline=dict.fromkeys(told, float("nan")),
        count={role: int(count[column]) for role, column in told.items()},
        selected={role: selected[..., column] for role, column in told.items()},
        report=dict.fromkeys(told),
        skipped={"rows without a single largest weight": _without_answer(counts)},
    )


def _count_all(explainer: Explainer, batches: Iterable[Mapping[str, Tensor]]) -> OffsetCounts:
    total: OffsetCounts | None = None
    for batch in batches:
        inputs = Inputs.from_mapping(batch).to(explainer.adapter.device)
        counts = count_offsets(explainer.adapter.attentions(inputs), inputs.attention_mask.bool())
        total = counts if total is None else _plus(total, counts)
    if total is None or total.rows == 0:
        raise InputError("conf error: heads: there is no text to find positional heads on; give at least one batch.")
    return total


def count_offsets(attentions: list[Tensor], real: Tensor) -> OffsetCounts:
    """The counts of one batch: attention L x [B, H, N, N]; `real` [B, N] is False at padding, on either side."""
    place = torch.arange(real.shape[1], device=real.device)
    offset = (place[None, :] - place[:, None] + real.shape[1] - 1).expand(len(real), -1, -1)
    pairs = real[:, :, None] & real[:, None, :]
    neighbours = torch.bincount(offset[pairs], minlength=2 * real.shape[1] - 1)
    hits = torch.stack([_offset_hits(attention, real) for attention in attentions])
    return OffsetCounts(hits.cpu(), neighbours.cpu(), int(real.sum()))


def _offset_hits(attention: Tensor, real: Tensor) -> Tensor:
    """Rows of each head by the offset of their answer: [B, H, N, N] -> [H, 2N-1]."""
    heads, length = attention.shape[1:3]
    target = answer(attention.masked_fill(~real[:, None, None, :], 0))
    place, head = torch.arange(length, device=real.device), torch.arange(heads, device=real.device)
    column = target - place + length - 1 + head[:, None] * (2 * length - 1)
    counted = (target >= 0) & real[:, None, :]
    return torch.bincount(column[counted], minlength=heads * (2 * length - 1)).view(heads, -1)


def _plus(a: OffsetCounts, b: OffsetCounts) -> OffsetCounts:
    width = max(a.neighbours.shape[0], b.neighbours.shape[0])
    return OffsetCounts(
        _widened(a.hits, width) + _widened(b.hits, width),
        _widened(a.neighbours, width) + _widened(b.neighbours, width),
        a.rows + b.rows,
    )


def _widened(counts: Tensor, width: int) -> Tensor:
    margin = (width - counts.shape[-1]) // 2
    return pad(counts, (margin, margin))


def _frequencies(counts: OffsetCounts, denominator: str) -> tuple[Tensor, Tensor, Tensor]:
    """Share of rows [L, H, O], the rows it is a share of [O], and whether the offset may be selected [O]."""
    if denominator == "reference":
        rows = torch.full_like(counts.neighbours, counts.rows)
        return counts.hits / rows.double(), rows, torch.ones_like(rows, dtype=torch.bool)
    rows = counts.neighbours
    eligible = (rows >= MIN_ROWS) & (rows >= MIN_SHARE * counts.rows)
    return counts.hits / rows.clamp(min=1).double(), rows, eligible


def _without_answer(counts: OffsetCounts) -> int:
    layers, heads, _ = counts.hits.shape
    return counts.rows * layers * heads - int(counts.hits.sum())
