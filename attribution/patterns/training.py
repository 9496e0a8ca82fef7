"""Training that can be taken up again: epochs over the losses of batches, and what is kept after each of them."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from attribution.errors import InputError
from attribution.patterns.students import Learner, Recipe

Shown = Callable[[Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Training:
    """Everything that decides the weights, next to the examples and what is started from.

    distilled: the weight of what the teacher says; that of the labels, or of the oracle, is the rest.
    """

    epochs: int = 3
    batch_size: int = 16
    max_length: int = 256
    seed: int = 0
    distilled: float = 0.0
    temperature: float = 1.0
    recipe: Recipe = field(default_factory=Recipe)


USUAL = Training()


class Checkpoint(Protocol):
    """Where a training is kept: all of it after each epoch, or nothing."""

    def read(self) -> bytes | None:
        """What was kept after the last epoch that was; None where no epoch was."""

    def write(self, data: bytes, epoch: int) -> None:
        """Keep this in place of what was kept before, whole or not at all."""


@dataclass(frozen=True)
class CheckpointFile:
    """A checkpoint in one file."""

    path: Path

    def read(self) -> bytes | None:
        """The file, if it is there."""
        return self.path.read_bytes() if self.path.is_file() else None

    def write(self, data: bytes, epoch: int) -> None:
        """Write the file anew."""
        part = self.path.with_name(self.path.name + ".part")
        part.write_bytes(data)
        os.replace(part, self.path)


def fit(
    model: PreTrainedModel,
    n_examples: int,
    losses: Callable[[], Iterable[Tensor]],
    training: Training,
    *,
    checkpoint: Checkpoint | None = None,
    shown: Shown = iter,
) -> list[float]:
    """Train by the losses of an epoch's batches; gives the mean loss of each epoch, and leaves the model in evaluation
    mode. The global random state stays as it was.

    Where a checkpoint holds epochs of the same training it goes on behind them and comes to the same weights; what
    belongs to another training is refused.
    """
    steps = training.epochs * -(-n_examples // training.batch_size)
    learner, found = Learner(model, steps, training.recipe), list[float]()
    if checkpoint is not None and (kept := checkpoint.read()) is not None:
        found = _taken_up(kept, model, learner, training)
    for epoch in range(len(found), training.epochs):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed + epoch)
            model.train()
            of_batches = [learner.step(loss) for loss in shown(losses())]
        found.append(sum(of_batches) / len(of_batches))
        if checkpoint is not None:
            checkpoint.write(_state(model, learner, training, found), epoch)
    model.eval()
    return found


def check_taught(training: Training, taught: object | None) -> None:
    """InputError where a teacher is to be followed and says nothing, or the other way round."""
    if (taught is None) != (training.distilled == 0):
        raise InputError(
            f"students: distilled={training.distilled} and a teacher's logits come together, or neither does."
        )


def _state(model: PreTrainedModel, learner: Learner, training: Training, losses: list[float]) -> bytes:
    state = {"training": asdict(training), "losses": losses, "model": model.state_dict(), **learner.state()}
    torch.save(state, into := io.BytesIO())
    return into.getvalue()


def _taken_up(kept: bytes, model: PreTrainedModel, learner: Learner, training: Training) -> list[float]:
    """Take over what was kept; the losses of the epochs that are done."""
    state = torch.load(io.BytesIO(kept), map_location=model.device, weights_only=True)
    if state["training"] != asdict(training):
        raise InputError(
            "students: the checkpoint is of another training than was asked for; choose another place, or remove it."
        )
    model.load_state_dict(state["model"])
    learner.resume(state)
    losses: list[float] = state["losses"]
    return losses
