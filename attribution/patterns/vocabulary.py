"""What is known of each token of a vocabulary by itself: how it is spelled, and which classes it belongs to."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from attribution.errors import InputError

_ENDS, _CLOSERS = frozenset(".!?\u2026"), frozenset("\"'\u201d\u2019)]\u00bb")

# Classes of spellings (without the mark of a leading space); those of special tokens are in `_special_classes`.
_SPELLED: dict[str, Callable[[str], bool]] = {
    "non_alpha": lambda text: not any(map(str.isalpha, text)),
    "punctuation": lambda text: bool(text) and all(unicodedata.category(letter)[0] == "P" for letter in text),
    "number": lambda text: text.removeprefix("##").isdigit(),
    "sentence_end": lambda text: bool(text) and set(text) <= _ENDS,
    "closer": lambda text: bool(text) and set(text) <= _CLOSERS,
}
_SPECIAL = ("special", "first", "separator")
CLASSES = (*_SPECIAL, *_SPELLED)


@dataclass(frozen=True)
class Vocabulary:
    """`spelling` [V]: tokens that differ in case or in a leading space alone share a number. `classes` [V]: bits.

    Two tensors, so that a saved model can keep them among its weights.
    """

    spelling: Tensor
    classes: Tensor

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase | None) -> Vocabulary:
        """Of a tokenizer. Unknown and masked words count as words of the text, as they do everywhere."""
        if tokenizer is None:
            raise InputError(
                "patterns: spellings and classes of tokens are read from the tokenizer; the model has none."
            )
        return _tables(tokenizer, len(tokenizer))

    @classmethod
    def empty(cls, size: int) -> Vocabulary:
        """Tables to be filled with those of a saved model."""
        return cls(torch.zeros(size, dtype=torch.int32), torch.zeros(size, dtype=torch.uint8))

    def has(self, ids: Tensor, token_class: str) -> Tensor:
        """Bool, like `ids`: whether each token belongs to one of `CLASSES`."""
        return (self.classes.to(ids.device)[ids] & 1 << CLASSES.index(token_class)).bool()

    def spelled(self, ids: Tensor) -> Tensor:
        """A number for the spelling of each token, like `ids`."""
        return self.spelling.to(ids.device)[ids]


@lru_cache(maxsize=8)
def _tables(tokenizer: PreTrainedTokenizerBase, _size: int) -> Vocabulary:
    texts = _spellings(tokenizer)
    number = {text: index for index, text in enumerate(dict.fromkeys(texts))}
    special = _special_classes(tokenizer)
    classes = [special.get(index) or _bits(text) for index, text in enumerate(texts)]
    spelling = torch.tensor([number[text] for text in texts], dtype=torch.int32)
    return Vocabulary(spelling, torch.tensor(classes, dtype=torch.uint8))


def _spellings(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Each token as text in lower case, without spaces around it; parts of characters keep the name they have."""
    size = len(tokenizer)
    names = tokenizer.convert_ids_to_tokens(range(size))
    texts = tokenizer.batch_decode([[index] for index in range(size)], clean_up_tokenization_spaces=False)
    return [_spelling(name or "", text) for name, text in zip(names, texts, strict=True)]


def _spelling(name: str, text: str) -> str:
    return name if "\ufffd" in text or (name.startswith("##") and "##" not in text) else text.strip().casefold()


def _bits(text: str) -> int:
    return _sum(name for name, belongs in _SPELLED.items() if belongs(text))


def _special_classes(tokenizer: PreTrainedTokenizerBase) -> dict[int, int]:
    """Classes of special tokens by id; `first` starts a text, `separator` ends one."""
    words = {tokenizer.unk_token_id, tokenizer.mask_token_id}
    roles = {"first": (tokenizer.cls_token_id, tokenizer.bos_token_id),
             "separator": (tokenizer.sep_token_id, tokenizer.eos_token_id)}  # fmt: skip
    return {
        index: _sum(("special", "non_alpha", *(role for role, known in roles.items() if index in known)))
        for index in set(tokenizer.all_special_ids) - words
    }


def _sum(names: Iterable[str]) -> int:
    return sum(1 << CLASSES.index(name) for name in names)
