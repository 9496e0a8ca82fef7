"""Examples in other passes than they came in, so that what is drawn from them does not follow from their batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from attribution.draws import example_keys
from attribution.heads.rows import Rows, intact
from attribution.model.inputs import alone, together
from attribution.targets import Target, as_target, of_rows


def keys_of(rows: Sequence[Rows], seed: int) -> Tensor:
    """[B] a random number of each example that follows from its tokens and `seed` alone."""
    return torch.cat([example_keys(each.inputs.input_ids, each.visible, seed) for each in rows]).cpu()


def regrouped(rows: Sequence[Rows], groups: Sequence[Sequence[int]]) -> list[Rows]:
    """A pass for each group of examples, by their numbers, with what is explained of each written out."""
    each = [one for several in rows for one in _singles(several)]
    return [_joined([each[number] for number in group]) for group in groups]


def _singles(rows: Rows) -> Iterator[Rows]:
    target = _explicit(rows)
    for row in range(rows.inputs.shape[0]):
        own = of_rows(target, slice(row, row + 1))
        yield replace(rows, inputs=alone(rows.inputs, row), target=own, first=rows.first + row)


def _explicit(rows: Rows) -> Target:
    """The target of the rows, or what the intact model predicts where none is given; positions are in their columns."""
    adapter = rows.adapter
    if rows.target is not None:
        return as_target(rows.target, adapter.task)
    predicted = [part.index for part in rows.parts(intact(rows))]
    if adapter.is_qa:
        return Target("span", position=torch.stack(predicted, 1))
    return Target(adapter.task if adapter.is_generative else "gold", index=predicted[0])


def _joined(several: Sequence[Rows]) -> Rows:
    first = several[0]
    targets = [as_target(each.target, first.adapter.task) for each in several]
    target = replace(targets[0], index=_all([t.index for t in targets]), position=_all([t.position for t in targets]))
    return replace(first, inputs=together([each.inputs for each in several], first.adapter.pad_id or 0), target=target)


def _all(values: Sequence[int | Tensor | None]) -> Tensor | None:
    given = [value for value in values if isinstance(value, Tensor)]
    return torch.cat(given) if given else None
