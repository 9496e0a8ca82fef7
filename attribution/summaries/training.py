"""Training of sentence scorers from oracle extracts, from a teacher's logits, or both; it can be taken up again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attribution.decoding.training import pooled_batches
from attribution.errors import InputError
from attribution.patterns.students import Learner, Recipe, distilled_sentences, sentence_loss
from attribution.summaries.encoding import SentenceBatch, encode
from attribution.summaries.scorer import sentence_logits


class Labelled(Protocol):
    """A document as its sentences, and the numbers of those an oracle takes."""

    @property
    def sentences(self) -> Sequence[str]:
        """In their order."""

    @property
    def oracle(self) -> Sequence[int] | None:
        """None where it is not known."""


@dataclass(frozen=True)
class Training:
    """Everything that decides the weights, next to the documents and what is started from.

    distilled: the weight of what the teacher says; that of the oracle is the rest.
    """

    epochs: int = 3
    batch_size: int = 16
    max_length: int = 256
    seed: int = 0
    distilled: float = 0.0
    temperature: float = 1.0
    recipe: Recipe = field(default_factory=Recipe)


def train_scorer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Labelled],
    training: Training = Training(),
    *,
    taught: Sequence[Sequence[float]] | None = None,
    checkpoint: Path | None = None,
    shown: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> list[float]:
    """Train a scorer of sentences; gives the mean loss of each epoch, and leaves the model in evaluation mode.

    taught: a teacher's logits of the sentences of each document, as `score_sentences` gives them. checkpoint: a file
    that is written after each epoch; where it is there already, training goes on from it and comes to the same weights.
    What belongs to another training is refused. shown: wraps the batches, for a progress bar. The global random state
    stays as it was.
    """
    _check(documents, training, taught)
    steps = training.epochs * -(-len(documents) // training.batch_size)
    learner, losses = Learner(model, steps, training.recipe), list[float]()
    if checkpoint is not None and checkpoint.is_file():
        losses = _taken_up(checkpoint, model, learner, training)
    for epoch in range(len(losses), training.epochs):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed + epoch)
            found = [learner.step(loss) for loss in shown(_losses(model, tokenizer, documents, training, taught))]
        losses.append(sum(found) / len(found))
        if checkpoint is not None:
            _keep(checkpoint, model, learner, training, losses)
    model.eval()
    return losses


def _check(documents: Sequence[Labelled], training: Training, taught: Sequence[Sequence[float]] | None) -> None:
    if not documents:
        raise InputError("summaries: there are no documents to train on.")
    if training.distilled < 1 and any(document.oracle is None for document in documents):
        raise InputError("summaries: training needs the oracle's sentences of every document; make them first.")
    if (taught is None) != (training.distilled == 0):
        raise InputError(
            f"summaries: distilled={training.distilled} and a teacher's logits come together, or neither does."
        )


def _losses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Labelled],
    training: Training,
    taught: Sequence[Sequence[float]] | None,
) -> Iterator[Tensor]:
    """The loss of each batch of an epoch, made when it is asked for."""
    model.train()
    texts = [" ".join(document.sentences) for document in documents]
    for chosen in pooled_batches(texts, training.batch_size):
        members = [documents[index] for index in chosen]
        batch = encode(tokenizer, [each.sentences for each in members], training.max_length).to(model.device)
        wanted = None if taught is None else _taught(batch, [taught[index] for index in chosen])
        yield _loss(sentence_logits(model, batch), batch, members, training, wanted)


def _taught(batch: SentenceBatch, rows: Sequence[Sequence[float]]) -> Tensor:
    """[B, S] a teacher's logits of the sentences that are given."""
    if batch.given.sum(1).tolist() != [len(row) for row in rows]:
        raise InputError("summaries: the teacher's logits are of other sentences; score with the same max_length.")
    found = torch.zeros(batch.given.shape, device=batch.given.device)
    found[batch.given] = torch.tensor([value for row in rows for value in row], device=found.device)
    return found


def _loss(
    logits: Tensor, batch: SentenceBatch, members: Sequence[Labelled], training: Training, wanted: Tensor | None
) -> Tensor:
    total = logits.new_zeros(())
    if wanted is not None:
        total = training.distilled * distilled_sentences(logits, wanted, batch.given, training.temperature)
    if training.distilled < 1:
        total = total + (1 - training.distilled) * sentence_loss(logits, _oracle(batch, members), batch.given)
    return total


def _oracle(batch: SentenceBatch, members: Sequence[Labelled]) -> Tensor:
    """[B, S] 1 for the sentences an oracle takes."""
    marks = torch.zeros_like(batch.given)
    for row, document in enumerate(members):
        marks[row, [number for number in document.oracle or () if number < marks.shape[1]]] = True
    return marks


def _keep(path: Path, model: PreTrainedModel, learner: Learner, training: Training, losses: list[float]) -> None:
    state = {"training": asdict(training), "losses": losses, "model": model.state_dict(), **learner.state()}
    torch.save(state, part := path.with_name(path.name + ".part"))
    os.replace(part, path)


def _taken_up(path: Path, model: PreTrainedModel, learner: Learner, training: Training) -> list[float]:
    """Load a checkpoint; the losses of the epochs it has behind it."""
    state = torch.load(path, map_location=model.device, weights_only=True)
    if state["training"] != asdict(training):
        raise InputError(
            f"summaries: {path} is of another training than was asked for; choose another file, or remove it."
        )
    model.load_state_dict(state["model"])
    learner.resume(state)
    losses: list[float] = state["losses"]
    return losses
