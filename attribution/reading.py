"""What is read of a model's outputs on perturbed copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from attribution.model.inputs import Inputs


@dataclass(frozen=True)
class Marks:
    """Integers of each row: `positions` [R, T] are columns and move along with the text, `labels` [R, U] stay.

    `reads` [R, P] are the columns whose next token is asked for; a deleted one gives way to the last left before it.
    """

    positions: Tensor | None = None
    labels: Tensor | None = None
    reads: Tensor | None = None

    def present(self) -> dict[str, Tensor]:
        """The fields that are set, by name."""
        return {name: value for name in ("positions", "labels", "reads") if (value := getattr(self, name)) is not None}

    def rows(self, index: Tensor) -> Marks:
        """Those of the rows selected by `index`."""
        return Marks(**{name: value[index.to(value.device)] for name, value in self.present().items()})

    def to(self, device: torch.device | str) -> Marks:
        """The same on another device."""
        return Marks(**{name: value.to(device) for name, value in self.present().items()})


Read = Callable[[Tensor, Inputs, Marks], Tensor]


def read_classes(logits: Tensor, batch: Inputs, marks: Marks) -> Tensor:
    """Logits [R, C], their log-probabilities, and the predicted class throughout: [R, 3, C], float32 or wider."""
    wide = _widen(logits)
    return torch.stack((wide, wide.log_softmax(-1), _decision(wide.argmax(-1, keepdim=True), wide)), 1)


def read_labels(logits: Tensor, batch: Inputs, marks: Marks) -> Tensor:
    """Logits [R, C] of labels that do not exclude each other, the logarithms of their sigmoids, and which of them are
    predicted (1): [R, 3, C].
    """
    wide = _widen(logits)
    return torch.stack((wide, F.logsigmoid(wide), _decision(wide > 0, wide)), 1)


def read_next_tokens(logits: Tensor, batch: Inputs, marks: Marks) -> Tensor:
    """Logits [R, 1, V] at the tokens `labels` [R, 1] alone, their log-probabilities, and the likeliest token:
    [R, 3, 1].
    """
    assert marks.labels is not None
    wide = _widen(logits[:, 0])
    best = _decision(wide.argmax(-1, keepdim=True), wide)
    return torch.stack((wide, wide.log_softmax(-1), best), 1).gather(2, marks.labels[:, None].expand(-1, 3, -1))


def read_best_tokens(logits: Tensor, batch: Inputs, marks: Marks) -> Tensor:
    """The two likeliest next tokens of logits [R, 1, V], the likeliest first: [R, 2]."""
    return logits[:, 0].topk(2, dim=-1).indices


def read_span(logits: Tensor, batch: Inputs, marks: Marks) -> Tensor:
    """Start and end logits [R, N, 2] at the positions [R, 2], their log-probabilities over the attended, and the
    columns of the best start and end: [R, 3, 2].
    """
    positions = marks.positions
    assert positions is not None
    attended = _attended_only(logits, batch)
    all_of = torch.stack((attended, attended.log_softmax(1), _decision(attended.argmax(1, keepdim=True), attended)), 1)
    return all_of.gather(2, positions[:, None, None, :].expand(-1, 3, -1, -1)).squeeze(2)


def read_best_span(logits: Tensor, batch: Inputs, marks: Marks) -> Tensor:
    """Columns of the best attended start and end: [R, 2]."""
    return _attended_only(logits, batch).argmax(1)


def _decision(chosen: Tensor, like: Tensor) -> Tensor:
    """Indexes among numbers: exact up to the 16 million that float32 counts."""
    return chosen.to(like.dtype).expand_as(like)


def _attended_only(logits: Tensor, batch: Inputs) -> Tensor:
    return _widen(logits).masked_fill(~batch.attention_mask.bool()[:, :, None], -torch.inf)


def _widen(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
