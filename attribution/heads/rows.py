"""The examples heads are judged on, in passes of one size, and the loss of what the model says of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attribution.errors import InputError
from attribution.model.adapter import ModelAdapter, align, frozen
from attribution.model.inputs import Inputs
from attribution.targets import Part, Target, TargetLike, in_aligned_columns, of_rows, parts, token_columns

if TYPE_CHECKING:
    from attribution.explainer import Explainer

ANSWERS = ("start_positions", "end_positions")


@dataclass(frozen=True)
class Rows:
    """Left-aligned rows [B, N] of one pass, from the batch of number `batch`; `first` is the number of the first."""

    adapter: ModelAdapter
    inputs: Inputs
    target: TargetLike
    batch: int
    first: int

    @property
    def visible(self) -> Tensor:
        """Bool [B, N]: attended positions."""
        return self.inputs.attention_mask.bool()

    @property
    def columns(self) -> Tensor | None:
        """[B, 1] where logits of tokens are read; None for other tasks."""
        if not self.adapter.is_generative:
            return None
        return token_columns([self.target], self.visible, self.adapter.read_out(self.inputs), self.adapter.task)

    def logits(self) -> Tensor:
        """Logits of the rows, whatever the context does to the heads; the caller decides on gradients."""
        return self.adapter.forward(self.inputs, self.columns)

    def parts(self, logits: Tensor, output: str = "log_probability") -> list[Part]:
        """What is explained: the labels given or else what these logits [B, ...] predict; two parts for answers."""
        found = parts(
            self.target, logits.detach(), self.visible, self.adapter.read_out(self.inputs),
            columns=self.columns, task=self.adapter.task, independent=self.adapter.multi_label,
        )  # fmt: skip
        return [replace(part, output=output) for part in found]


def value_of(asked: Sequence[Part], logits: Tensor, copies: int = 1) -> Tensor:
    """[copies * B] what is explained of logits that are `copies` of the rows, one after the other; parts add up."""
    total = [part.value(logits, part.visible.repeat(copies, 1), part.chosen.repeat(copies, 1)) for part in asked]
    return torch.stack(total).sum(0)


def loss_of(asked: Sequence[Part], logits: Tensor, copies: int = 1) -> Tensor:
    """[copies * B] negative log-likelihood of what is explained (`log_probability` parts)."""
    return -value_of(asked, logits, copies)


def decided(asked: Sequence[Part], logits: Tensor) -> Tensor:
    """Bool [B]: whether these logits still decide for what is explained, for both ends of an answer."""
    return torch.stack([part.decided(logits, part.visible, part.chosen) for part in asked]).all(0)


def rows_of(explainer: Explainer, batches: Iterable[Mapping[str, Tensor]]) -> Iterator[Rows]:
    """The batches as a tokenizer returns them, in passes of at most `explainer.max_tokens` tokens.

    The loss is of `labels` [B] (classes, or the tokens that are predicted), or of `start_positions` and
    `end_positions` [B], where a batch has them; else of what the model itself predicts.
    """
    adapter, first = explainer.adapter, 0
    for number, batch in enumerate(batches):
        inputs, target = Inputs.from_mapping(batch), _target(batch, adapter)
        size = max(1, explainer.max_tokens // inputs.shape[1])
        for start in range(0, inputs.shape[0], size):
            part = slice(start, start + size)
            aligned, index = align(inputs.rows(part).to(adapter.device))
            own = in_aligned_columns(of_rows(target, part), adapter.task, index)
            yield Rows(adapter, aligned, own, number, first)
            first += aligned.shape[0]


def _target(batch: Mapping[str, Tensor], adapter: ModelAdapter) -> TargetLike:
    if adapter.is_qa:
        return _span(batch)
    if "labels" not in batch:
        return None
    labels = batch["labels"]
    if labels.ndim != 1 or labels.is_floating_point():
        raise InputError(f"labels have shape {list(labels.shape)}; one class or token for each row is needed, [B]")
    return Target(adapter.task if adapter.is_generative else "gold", index=labels.to(adapter.device))


def _span(batch: Mapping[str, Tensor]) -> TargetLike:
    given = [batch[name] for name in ANSWERS if name in batch]
    if len(given) == 1:
        raise InputError(f"a batch of questions needs both of {', '.join(ANSWERS)}, or neither")
    return Target("span", position=torch.stack(given, 1)) if given else None


def intact(rows: Rows) -> Tensor:
    """Logits of the rows as they are."""
    with torch.inference_mode(), frozen(rows.adapter.model):
        return rows.logits()
