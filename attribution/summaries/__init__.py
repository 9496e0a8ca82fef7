"""Extractive summarisation in the form of BERTSum: documents as models read them, and a score for each sentence."""

from attribution.summaries.encoding import SentenceBatch, encode
from attribution.summaries.scorer import sentence_logits

__all__ = ["SentenceBatch", "encode", "sentence_logits"]
