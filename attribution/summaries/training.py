"""Training of sentence scorers from oracle extracts, from a teacher's logits, or both; it can be taken up again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attribution.decoding.training import pooled_batches
from attribution.errors import InputError
from attribution.patterns.students import distilled_sentences, sentence_loss
from attribution.patterns.training import USUAL, Checkpoint, Shown, Training, check_taught, fit
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


def train_scorer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Labelled],
    training: Training = USUAL,
    *,
    taught: Sequence[Sequence[float]] | None = None,
    checkpoint: Checkpoint | None = None,
    shown: Shown = iter,
) -> list[float]:
    """Train a scorer of sentences; gives the mean loss of each epoch, and leaves the model in evaluation mode.

    taught: a teacher's logits of the sentences of each document, as `score_sentences` gives them. checkpoint: is
    written after each epoch; where it holds some already, training goes on behind them and comes to the same weights.
    shown: wraps the batches, for a progress bar. The global random state stays as it was.
    """
    _check(documents, training, taught)
    losses = partial(_losses, model, tokenizer, documents, training, taught)
    return fit(model, len(documents), losses, training, checkpoint=checkpoint, shown=shown)


def _check(documents: Sequence[Labelled], training: Training, taught: Sequence[Sequence[float]] | None) -> None:
    if not documents:
        raise InputError("summaries: there are no documents to train on.")
    if training.distilled < 1 and any(document.oracle is None for document in documents):
        raise InputError("summaries: training needs the oracle's sentences of every document; make them first.")
    check_taught(training, taught)


def _losses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Labelled],
    training: Training,
    taught: Sequence[Sequence[float]] | None,
) -> Iterator[Tensor]:
    """The loss of each batch of an epoch, made when it is asked for."""
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
