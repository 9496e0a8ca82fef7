"""Runs perturbed copies of inputs: each distinct copy once, in passes of fixed shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attribution.errors import InputError
from attribution.model.inputs import Inputs
from attribution.operators import EMBEDDINGS, OPERATORS, available_operators, refusal, resolve_operator
from attribution.passes import (
    Copies,
    Memory,
    PassCounts,
    Passes,
    bucket_widths,
    default_batch_tokens,
    fill_of,
    rows_per_pass,
)
from attribution.reading import (
    Marks,
    Read,
    read_best_span,
    read_best_tokens,
    read_classes,
    read_labels,
    read_next_tokens,
    read_span,
)

if TYPE_CHECKING:
    from attribution.model.adapter import ModelAdapter

__all__ = [
    "OPERATORS",
    "Marks",
    "Memory",
    "PassCounts",
    "Perturbation",
    "Read",
    "available_operators",
    "bucket_widths",
    "default_batch_tokens",
    "distinct_rows",
    "read_best_span",
    "read_best_tokens",
    "read_classes",
    "read_labels",
    "read_next_tokens",
    "read_span",
    "refusal",
    "resolve_operator",
    "row_hash",
    "rows_per_pass",
    "run_perturbed",
]


NO_MARKS = Marks()


@dataclass(frozen=True)
class Perturbation:
    """Copies of base rows: `rows` [R] names the base row of each, `touched` bool [R, N] its perturbed tokens.

    tokens: ids [R, N] that take the places of the touched, whatever the operator.
    """

    rows: Tensor
    touched: Tensor
    operator: str
    tokens: Tensor | None = None


def run_perturbed(
    adapter: ModelAdapter,
    base: Inputs,
    perturbations: Sequence[Perturbation],
    read: Read = read_classes,
    *,
    marks: Marks = NO_MARKS,
    batch_tokens: int | None = None,
    memory: Memory | None = None,
) -> tuple[list[Tensor], PassCounts]:
    """`read` of every perturbed row, one tensor [R, ...] per perturbation, and what it cost.

    `marks` are those of the base rows; `read` gets them for its rows. Rows are laid out from the left without the
    padding of their base, so that neither its side nor its amount matters. A pass has a shape that follows from its
    rows' length alone: a row's result does not depend on the rows it is run with. What is in `memory` is not run again.
    """
    parts = [_copies(adapter, base, perturbation, marks) for perturbation in perturbations]
    copies = Copies.joined(parts)
    first, inverse = distinct_rows(copies.identity())
    passes = Passes(adapter, batch_tokens or default_batch_tokens(adapter), memory if marks.reads is None else None)
    values, counts = passes.run(copies.take(first), read)
    counts = replace(counts, requested=len(inverse))
    if memory is not None:
        memory.counts += counts
    return list(torch.split(values.to(inverse.device)[inverse], [len(part.lengths) for part in parts])), counts


def distinct_rows(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of [R, M] that differ from all before, as indexes [D], and for each row which of them it equals, [R].

    Rows are grouped by hash and compared with the first of their group; those that only share the hash go another
    round, so the answer is exact whatever the hash does.
    """
    equal_to = torch.empty(len(matrix), dtype=torch.long, device=matrix.device)
    pending = torch.arange(len(matrix), device=matrix.device)
    while len(pending):
        groups, group = torch.unique(row_hash(matrix[pending]), return_inverse=True)
        heads = pending.new_full((len(groups),), len(matrix)).scatter_reduce(0, group, pending, "amin")[group]
        same = (matrix[pending] == matrix[heads]).all(1)
        equal_to[pending[same]] = heads[same]
        pending = pending[~same]
    first, inverse = torch.unique(equal_to, return_inverse=True)
    return first, inverse


def row_hash(matrix: Tensor) -> Tensor:
    """64-bit hash [R] of the rows of an integer matrix [R, M]: a sum with random odd weights, modulo 2**64."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randint(-(2**62), 2**62, (matrix.shape[1],), generator=generator).to(matrix.device) * 2 + 1
    return torch.cat([(part * weights).sum(1) for part in torch.split(matrix, 4096)])


def _copies(adapter: ModelAdapter, base: Inputs, perturbation: Perturbation, marks: Marks) -> Copies:
    rows, touched, operator = perturbation.rows, perturbation.touched, perturbation.operator
    extent, ids = _extent(base.attention_mask)[rows], base.input_ids[rows]
    if perturbation.tokens is not None:
        ids = torch.where(touched, perturbation.tokens, ids)
    elif (token := OPERATORS[resolve_operator(adapter, operator)]) is not None:
        ids = ids.masked_fill(touched, getattr(adapter, token))
    own = marks.to(rows.device).rows(rows)
    keep, ids = _without(adapter, extent, touched, ids, own.reads) if operator == "delete" else (extent, ids)
    lengths = keep.sum(1)
    fields = {"input_ids": _packed(ids, keep, fill_of(adapter)["input_ids"])}
    for name in ("attention_mask", "token_type_ids"):
        if (value := getattr(base, name)) is not None:
            fields[name] = _packed(value[rows], keep, 0)
    if operator == "attention_mask_out":
        fields["attention_mask"] *= _packed((~touched).long(), keep, 0)
        if not bool(fields["attention_mask"][:, 0].all()):
            raise InputError(f"operator={operator}: the first token, which is read out, cannot be hidden")
    if base.position_ids is not None:  # numbered anew: the i-th token left gets the i-th position
        within = torch.arange(keep.shape[1], device=keep.device) < lengths[:, None]
        fields["position_ids"] = _packed(base.position_ids[rows], extent, 0) * within
    moved = own if own.positions is None else replace(own, positions=_moved(own.positions, keep))
    moved = moved if own.reads is None else replace(moved, reads=_last_before(own.reads, keep))
    swapped = _packed(touched.int() * EMBEDDINGS[operator], keep, 0) if operator in EMBEDDINGS else None
    return Copies(Inputs(**{name: value.int() for name, value in fields.items()}), lengths, moved, swapped)


def _without(
    adapter: ModelAdapter, extent: Tensor, touched: Tensor, ids: Tensor, reads: Tensor | None
) -> tuple[Tensor, Tensor]:
    """What is kept where the touched are deleted, and the ids.

    A decoder that would have nothing to read, at the first of the columns `reads` or at all, has its start token.
    """
    keep, place = extent & ~touched, torch.arange(ids.shape[1], device=ids.device)
    until = place[-1:].expand(len(ids)) if reads is None else reads.amin(1)
    empty = ~(keep & (place <= until[:, None])).any(1, keepdim=True)
    if bool(empty.any()) and adapter.start_id is None:
        raise InputError("operator=delete: a text would have no token left; perturb fewer tokens")
    start = empty & extent & (extent.cumsum(1) == 1)
    return keep | start, ids if adapter.start_id is None else ids.masked_fill(start, adapter.start_id)


def _extent(attention_mask: Tensor) -> Tensor:
    """From the first to the last attended column: padding is outside, hidden tokens are inside. Bool [B, N]."""
    attended = attention_mask.bool().int()
    return (attended.cumsum(1) > 0) & (attended.flip(1).cumsum(1).flip(1) > 0)


def _packed(values: Tensor, keep: Tensor, fill: int) -> Tensor:
    """The kept entries of each row moved to the left, in order; the rest is `fill`."""
    n = keep.shape[1]
    slots = torch.where(keep, keep.cumsum(1) - 1, n)
    return values.new_full((len(values), n + 1), fill).scatter(1, slots, values)[:, :n]


def _moved(positions: Tensor, keep: Tensor) -> Tensor:
    """Where the given columns [R, T] are once the kept ones are packed to the left."""
    if not bool(keep.gather(1, positions).all()):
        raise InputError("target: an explained position lies on padding or on a deleted token")
    return (keep.cumsum(1) - 1).gather(1, positions)


def _last_before(columns: Tensor, keep: Tensor) -> Tensor:
    """Where the last kept token is that stands at or before each of the columns [R, P], once the kept are packed."""
    left = (keep.cumsum(1) - 1).gather(1, columns)
    if bool((left < 0).any()):
        raise InputError("target: every token before an explained one would be deleted; perturb fewer tokens")
    return left
