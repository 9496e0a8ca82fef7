"""What the loss says when one head is taken away: switched off, or given what it gives on average or elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from attribution.draws import example_keys
from attribution.errors import InputError
from attribution.heads.head_pass import HeadPass
from attribution.heads.outputs import head_outputs, kept, replaced
from attribution.heads.rows import Rows, loss_of
from attribution.model.adapter import frozen
from attribution.model.inputs import Inputs, padded_rows

Replacement = Callable[[Rows], list[Tensor | float]]  # L values for `outputs.replaced`, heads in the last but one axis


def leave_one_out(found: HeadPass, *, replacement: Replacement) -> Tensor:
    """[B, L, H] loss without the head less the loss with it, signed: below 0 the head does harm."""
    rows, adapter = found.rows, found.rows.adapter
    by = replacement(rows)
    losses = [
        [_loss_without(found, layer, head, by[layer]) for head in range(adapter.n_heads)]
        for layer in range(adapter.n_layers)
    ]
    return torch.stack([torch.stack(each, 1) for each in losses], 1).double() - found.loss.double()[:, None, None]


def _loss_without(found: HeadPass, layer: int, head: int, by: Tensor | float) -> Tensor:
    adapter = found.rows.adapter
    value = by[..., head, :] if isinstance(by, Tensor) else by
    with torch.inference_mode(), frozen(adapter.model), head_outputs(adapter, replaced(layer, head, value)):
        return loss_of(found.parts, found.rows.logits())


def outputs_of(rows: Rows) -> list[Tensor]:
    """L x [B, N, H, d] what the heads give."""
    found: list[Tensor] = []
    with torch.inference_mode(), frozen(rows.adapter.model), head_outputs(rows.adapter, kept(found)):
        rows.logits()
    return found


def zeros(rows: Sequence[Rows], seed: int) -> Replacement:
    """Nothing at all."""
    return lambda own: [0.0] * own.adapter.n_layers


def means(rows: Sequence[Rows], seed: int) -> Replacement:
    """What the head gives on average over all tokens of all rows."""
    total, count = [torch.zeros((), dtype=torch.float64)] * rows[0].adapter.n_layers, 0
    for each in rows:
        visible = each.visible[..., None, None]
        total = [
            so_far + (given.double() * visible).sum((0, 1)).cpu()
            for so_far, given in zip(total, outputs_of(each), strict=True)
        ]
        count += int(each.visible.sum())
    average: list[Tensor | float] = [each / count for each in total]
    return lambda own: average


def resampled(rows: Sequence[Rows], seed: int) -> Replacement:
    """What the head gives in another example, token for token; a shorter one starts again.

    Which example follows from the texts and `seed`, whatever their order and batches.
    """
    texts = [(each.inputs, row) for each in rows for row in range(each.inputs.shape[0])]
    if len(texts) < 2:
        raise InputError("method=leave_one_out: ablation=resample needs at least two examples")
    keys = torch.cat([example_keys(each.inputs.input_ids, each.visible, seed) for each in rows]).cpu()
    order = keys.argsort(stable=True)
    donor = torch.empty_like(order).scatter(0, order, order.roll(-1)).tolist()

    def of(own: Rows) -> list[Tensor | float]:
        numbers = range(own.first, own.first + own.inputs.shape[0])
        return _borrowed(own, [texts[donor[number]] for number in numbers])

    return of


def _borrowed(own: Rows, donors: Sequence[tuple[Inputs, int]]) -> list[Tensor | float]:
    """L x [B, N, H, d] what the heads give for the donors, one of each row."""
    adapter, width = own.adapter, own.inputs.shape[1]
    alone = [padded_rows(inputs.rows(slice(row, row + 1)), [(0, _extent(inputs, row))], 0) for inputs, row in donors]
    lengths = [inputs.shape[1] for inputs in alone]
    given = [outputs_of(Rows(adapter, inputs, None, own.batch, own.first)) for inputs in alone]
    wanted = [torch.arange(width, device=adapter.device) % length for length in lengths]
    return [
        torch.stack([each[layer][0, at] for each, at in zip(given, wanted, strict=True)])
        for layer in range(adapter.n_layers)
    ]


def _extent(inputs: Inputs, row: int) -> range:
    return range(int(inputs.attention_mask[row].nonzero().max()) + 1)


ABLATIONS: dict[str, Callable[[Sequence[Rows], int], Replacement]] = {
    "zero": zeros,
    "mean": means,
    "resample": resampled,
}
