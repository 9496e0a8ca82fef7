"""Extractive summarisation in the form of BERTSum: documents as models read them, and a score for each sentence."""

from attribution.patterns.training import Training
from attribution.summaries.encoding import SentenceBatch, encode
from attribution.summaries.scorer import score_sentences, sentence_logits
from attribution.summaries.training import train_scorer

__all__ = ["SentenceBatch", "Training", "encode", "score_sentences", "sentence_logits", "train_scorer"]
