"""A score for each sentence of a document: what a token classifier with one label says at its first token."""

from __future__ import annotations

from torch import Tensor
from transformers import PreTrainedModel

from attribution.errors import InputError
from attribution.model.families import family_of
from attribution.summaries.encoding import SentenceBatch


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
