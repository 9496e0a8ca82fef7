"""A score for each sentence of a document: what a token classifier with one label says at its first token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attribution.errors import InputError
from attribution.model.adapter import frozen
from attribution.model.families import family_of
from attribution.summaries.encoding import SentenceBatch, encode


def sentence_logits(model: PreTrainedModel, batch: SentenceBatch) -> Tensor:
    """[B, S] the logit that a sentence is in the summary, of a stock model for token classification with one label.

    What it says of sentences that are not there is of no account.
    """
    if not type(model).__name__.endswith("ForTokenClassification") or model.config.num_labels != 1:
        raise InputError(
            f"summaries: {type(model).__name__} with {model.config.num_labels} labels scores no sentences; "
            "load a model for token classification with num_labels=1."
        )
    family = family_of(model.config.model_type)
    types = {"token_type_ids": batch.token_type_ids} if family.token_types else {}
    output = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, **types)
    logits: Tensor = output.logits[..., 0]
    return logits.gather(1, batch.starts)


def score_sentences(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Sequence[str]],
    *,
    max_length: int = 512,
    batch_size: int = 32,
) -> list[list[float]]:
    """The logits of each document's sentences; fewer than it has where it was cut."""
    found = []
    with torch.inference_mode(), frozen(model):
        for start in range(0, len(documents), batch_size):
            batch = encode(tokenizer, documents[start : start + batch_size], max_length).to(model.device)
            logits = sentence_logits(model, batch).cpu()
            found += [row[given].tolist() for row, given in zip(logits, batch.given.cpu(), strict=True)]
    return found
