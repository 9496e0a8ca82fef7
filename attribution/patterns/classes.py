"""Training of classifiers from labels, from a teacher's logits, or both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from attribution.decoding.training import pooled_batches
from attribution.errors import InputError
from attribution.model.families import family_of
from attribution.patterns.students import distilled_classes
from attribution.patterns.training import USUAL, Checkpoint, Shown, Training, check_taught, fit

Encoded = Mapping[str, Sequence[int]]  # a text as tokenizers give it: input_ids, and token_type_ids where there are any


def train_classifier(
    model: PreTrainedModel,
    texts: Sequence[Encoded],
    labels: Sequence[int],
    training: Training = USUAL,
    *,
    taught: Sequence[Sequence[float]] | None = None,
    checkpoint: Checkpoint | None = None,
    shown: Shown = iter,
) -> list[float]:
    """Train a classifier of texts; see `attribution.patterns.training.fit` for what comes back, and checkpoints.

    taught: a teacher's logits [C] of each text. Texts are as long as they were made: `max_length` cuts none.
    """
    if not texts or len(texts) != len(labels):
        raise InputError(f"students: {len(labels)} labels of {len(texts)} texts; training needs one of each.")
    check_taught(training, taught)
    wanted = torch.tensor(labels)
    softer = None if taught is None else torch.tensor(taught)

    def losses() -> Iterator[Tensor]:
        for chosen in pooled_batches([text["input_ids"] for text in texts], training.batch_size):
            logits = model(**_batch(model, [texts[index] for index in chosen])).logits
            teacher = None if softer is None else softer[chosen].to(logits.device)
            yield _loss(logits, wanted[chosen].to(logits.device), teacher, training)

    return fit(model, len(texts), losses, training, checkpoint=checkpoint, shown=shown)


def _loss(logits: Tensor, labels: Tensor, taught: Tensor | None, training: Training) -> Tensor:
    total = logits.new_zeros(())
    if taught is not None:
        total = training.distilled * distilled_classes(logits, taught, training.temperature)
    if training.distilled < 1:
        total = total + (1 - training.distilled) * F.cross_entropy(logits, labels)
    return total


def _batch(model: PreTrainedModel, texts: Sequence[Encoded]) -> dict[str, Tensor]:
    """Texts padded on the right."""
    types = family_of(model.config.model_type).token_types and texts[0].get("token_type_ids") is not None
    given = {"input_ids": model.config.pad_token_id or 0, **({"token_type_ids": 0} if types else {})}
    rows = {name: [torch.tensor(text[name]) for text in texts] for name in given}
    batch = {name: pad_sequence(rows[name], batch_first=True, padding_value=fill) for name, fill in given.items()}
    seen = [torch.ones_like(row) for row in rows["input_ids"]]
    batch["attention_mask"] = pad_sequence(seen, batch_first=True)
    return {name: each.to(model.device) for name, each in batch.items()}
