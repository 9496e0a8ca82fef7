"""Heads that look at a fixed offset, whatever stands there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attribution.errors import InputError
from attribution.heads.offsets import OffsetCounts, count_positional
from attribution.heads.roles import positional_role
from attribution.heads.scores import HeadScores

if TYPE_CHECKING:
    from attribution.explainer import Explainer

DENOMINATORS = ("applicable", "reference")
MIN_ROWS, MIN_SHARE = 100, 0.2  # an offset counts where so many rows, and this share of all rows, have the neighbour
SHOWN = range(-5, 6)  # offsets that are scored whether or not a head keeps to them


def positional_heads(
    explainer: Explainer,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    report: Iterable[Mapping[str, Tensor]] | None = None,
    threshold: float = 0.8,
    denominator: str = "applicable",
) -> HeadScores:
    """Heads whose largest weight lies at one offset in more than `threshold` of the rows (roles `positional:-1`, ...).

    Every token is a row, special tokens included, padding excluded; a row whose largest weight is shared looks nowhere.
    `denominator="applicable"` divides by the rows that have the neighbour, and an offset counts only where at least 100
    rows and 20 % of all rows have it; `"reference"` divides by all rows, as Mask-LRP does (section 1.4 of the paper's
    code; Voita et al. 2019 for the idea). `report` are texts that select nothing.
    """
    _check(denominator)
    counts = count_positional(explainer.adapter, batches)
    told = None if report is None else count_positional(explainer.adapter, report)
    return positional_scores(counts, told, threshold=threshold, denominator=denominator)


def _check(denominator: str) -> None:
    if denominator not in DENOMINATORS:
        choices = ", ".join(DENOMINATORS)
        raise InputError(f"conf error: heads.positional_denominator={denominator} is not known; choose {choices}.")


def positional_scores(
    counts: OffsetCounts,
    report: OffsetCounts | None = None,
    *,
    threshold: float = 0.8,
    denominator: str = "applicable",
) -> HeadScores:
    """What `positional_heads` says of these counts."""
    _check(denominator)
    if counts.rows == 0:
        raise InputError("conf error: heads: there is no text to find positional heads on; give at least one batch.")
    share, count, eligible = _frequencies(counts, denominator)
    selected = (share > threshold) & eligible
    reach = counts.reach
    known = [o for o in range(-reach, reach + 1) if counts.neighbours[o + reach] > 0]
    told = {positional_role(o): o + reach for o in known if o in SHOWN or selected[..., o + reach].any()}
    return HeadScores(
        scores={role: share[..., column] for role, column in told.items()},
        baseline=dict.fromkeys(told, float("nan")),
        count={role: int(count[column]) for role, column in told.items()},
        selected={role: selected[..., column] for role, column in told.items()},
        report=dict.fromkeys(told) if report is None else _reported(report, told, reach, denominator),
        skipped={"rows without a single largest weight": _without_answer(counts)},
    )


def _reported(counts: OffsetCounts, told: Mapping[str, int], reach: int, denominator: str) -> dict[str, Tensor | None]:
    """The same share [L, H] in other texts; 0 where no row of theirs has the neighbour."""
    share, _, _ = _frequencies(counts, denominator)
    columns = {role: column - reach + counts.reach for role, column in told.items()}
    nothing = torch.zeros_like(share[..., 0])
    return {role: share[..., at] if 0 <= at < share.shape[2] else nothing for role, at in columns.items()}


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
