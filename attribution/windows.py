"""Texts longer than a model takes, as windows that overlap; and what is found in windows, joined to one text.

A window holds the special tokens, the first of two texts, and a run of the tokens of the last text, `stride` of which
it shares with the window before it: what Hugging Face tokenizers give with `return_overflowing_tokens`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from attribution.errors import InputError

LONG_TEXTS = ("truncate", "windows")


@dataclass(frozen=True)
class Windows:
    """The windows of one text: `columns` [n] of the whole input that each holds; `moving`: those of the text cut up."""

    columns: list[list[int]]
    moving: range

    @classmethod
    def of(cls, fields: Sequence[int], max_length: int, stride: int | None = None) -> Windows:
        """Of an input whose tokens have these fields (0 text, 1 second text, -1 special).

        stride: tokens that neighbours share; None: a quarter of what a window holds of the text.
        """
        last = max(fields)
        inside = [column for column, field in enumerate(fields) if field == last]
        moving = range(inside[0], inside[-1] + 1) if last >= 0 else range(0)
        if len(fields) <= max_length:
            return cls([list(range(len(fields)))], moving)
        room = max_length - (len(fields) - len(moving))
        shared = max(0, room) // 4 if stride is None else stride
        if room <= shared:
            raise InputError(
                f"stride={shared}: a window of {max_length} tokens has room for {max(0, room)} of the text beside "
                "special tokens and the first text; choose a smaller stride or a larger max_length"
            )
        starts = range(moving.start, max(moving.start + 1, moving.stop - shared), room - shared)
        runs = [range(start, min(start + room, moving.stop)) for start in starts]
        return cls([[*range(moving.start), *run, *range(moving.stop, len(fields))] for run in runs], moving)

    def __len__(self) -> int:
        return len(self.columns)

    @cached_property
    def votes(self) -> Tensor:
        """[W, N] what each window has to say about each token of the whole: adds up to 1 over windows.

        Where windows overlap, a token counts in proportion to its distance from the nearest cut: at a cut, the model
        saw nothing of what follows or goes before. Tokens that are in every window count alike in all.
        """
        n = max(max(columns) for columns in self.columns) + 1
        weights = torch.zeros(len(self), n, dtype=torch.float64)
        for window, columns in enumerate(self.columns):
            own = [column for column in columns if column in self.moving]
            weights[window, columns] = 1.0
            place = torch.tensor(own)
            from_left = place - own[0] + 1 if own[0] > self.moving.start else torch.full_like(place, n)
            to_right = own[-1] + 1 - place if own[-1] + 1 < self.moving.stop else torch.full_like(place, n)
            weights[window, own] = torch.minimum(from_left, to_right).double()
        return weights / weights.sum(0)

    @cached_property
    def shares(self) -> Tensor:
        """[W] the share of the text that each window speaks for; adds up to 1."""
        return self.votes[:, self.moving.start : self.moving.stop].mean(1)

    def joined(self, scores: Sequence[Tensor]) -> Tensor:
        """Scores [N] of the whole text from those of its windows [n]: the mean of what holds a token, by votes."""
        total = torch.zeros(self.votes.shape[1], dtype=torch.float64)
        for votes, columns, own in zip(self.votes, self.columns, scores, strict=True):
            total[columns] += votes[columns] * own.double().cpu()
        return total.to(scores[0].dtype)

    def alone(self, window: int, scores: Tensor) -> Tensor:
        """Scores [N] of the whole text from one window [n], for what only that window has said; elsewhere 0."""
        total = torch.zeros(self.votes.shape[1], dtype=scores.dtype)
        total[self.columns[window]] = scores.cpu()
        return total

    def mean_logits(self, logits: Tensor) -> Tensor:
        """[C] of logits [W, C]: the mean over windows, by the share of the text that each speaks for."""
        return (self.shares.to(logits.device)[:, None] * logits.double()).sum(0).to(logits.dtype)


def answering(logits: Tensor, positions: Tensor) -> int:
    """Which window answers: the largest start plus end logit [W, 2] among those that point into the text.

    positions: [W, 2], each window's best start and end; one that begins at the first token says that there is no
    answer, and only answers if all windows say so.
    """
    total = logits.double().sum(1)
    pointing = positions[:, 0] > 0
    return int((total.masked_fill(~pointing, -torch.inf) if bool(pointing.any()) else total).argmax())
