"""Hidden states read as words: language-model heads, what they recover of the input, and how one is trained."""

from attribution.decoding.head import LanguageModelHead, head_for, head_of, read_head
from attribution.decoding.training import HeadQuality, HeadRecipe, train_language_model

__all__ = ["HeadQuality", "HeadRecipe", "LanguageModelHead", "head_for", "head_of", "read_head", "train_language_model"]
