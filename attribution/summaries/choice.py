"""A scorer of sentences as what it decides: a classifier whose classes are the sentences of a document.

The probability of a sentence is the softmax of the logits of all sentences of its document: that it is taken first, by
the odds between sentences that the scorer has learned. As such a classifier a choice can be explained and perturbed.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from attribution.capture import Need
from attribution.errors import InputError
from attribution.methods import METHODS
from attribution.model.inputs import Inputs
from attribution.summaries.encoding import SentenceBatch

ABSENT = -1e4  # the logit of sentences that a document does not have: no probability


def choosing(model: PreTrainedModel, first_token: int, sentences: int) -> PreTrainedModel:
    """A classifier [B, `sentences`] on the same weights; each sentence begins with `first_token`, none has more."""
    made: Any = copy.copy(model)
    scorer: Any = type(model)
    made.__class__ = _classifier(scorer)
    made.first_token, made.sentences = first_token, sentences
    classifier: PreTrainedModel = made
    return classifier


@cache
def _classifier(scorer: type[PreTrainedModel]) -> type[PreTrainedModel]:
    def forward(self: Any, input_ids: Tensor, **given: Any) -> SequenceClassifierOutput:
        logits = scorer.forward(self, input_ids=input_ids, **given).logits[..., 0]
        begins = input_ids == self.first_token
        places = begins.long().argsort(dim=1, descending=True, stable=True)
        places = F.pad(places, (0, max(0, self.sentences - places.shape[1])))[:, : self.sentences]
        known = torch.arange(self.sentences, device=places.device) < begins.sum(1, keepdim=True)
        return SequenceClassifierOutput(logits=logits.gather(1, places).masked_fill(~known, ABSENT))

    name = scorer.__name__.removesuffix("ForTokenClassification")
    return type(f"{name}SentencesForSequenceClassification", (scorer,), {"forward": forward, "__module__": __name__})


def check_method(method: str) -> None:
    """InputError for methods that read a model where a classifier of texts does: choices are read elsewhere."""
    if METHODS[method].needs & ~Need.EMBEDDING_GRADIENT:
        raise InputError(
            f"method={method} explains no choice of sentences: it reads attention, states or relevance where a "
            "classifier of texts reads its class. Choose one of gradients at the words, or that only asks the model."
        )


def inputs_of(batch: SentenceBatch) -> Inputs:
    """Documents as explainers take them."""
    return Inputs.of(batch.input_ids, batch.attention_mask, token_type_ids=batch.token_type_ids)
