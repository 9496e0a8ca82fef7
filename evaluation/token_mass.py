"""Where an explanation puts its mass: special tokens, punctuation, function words, the first token.

A method may look faithful and yet spend most of its scores on tokens that carry no content; some models draw relevance
to their first token whatever the text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from attribution.words import is_punctuation

MARKERS = ("##", "Ġ", "▁")  # of word pieces, byte-level and SentencePiece tokenizers
_WORDS = """
a an the this that these those and or but if of in on at by for to from with as into about over under than then so not
no nor is are was were be been being am do does did have has had it its he she they them his her their i you we my your
our me us who which what when where how there here all any some such very too also just only can could will would shall
should may might must
"""
FUNCTION_WORDS = frozenset(_WORDS.split())


def bare(token: str) -> str:
    """A token without its tokenizer's marks, in lower case."""
    for marker in MARKERS:
        token = token.removeprefix(marker)
    return token.strip().lower()


KINDS: dict[str, Callable[[str], bool]] = {
    "punctuation": lambda token: is_punctuation(bare(token)),
    "function_words": lambda token: bare(token) in FUNCTION_WORDS,
    "numbers": lambda token: bare(token).isnumeric(),
    "word_pieces": lambda token: token.startswith("##"),
}


def token_groups(tokens: Sequence[Sequence[str]], attention_mask: Tensor, special_tokens: Tensor) -> dict[str, Tensor]:
    """Groups of tokens, bool [B, N] each: special, first, last, and by what they are spelled like (KINDS).

    tokens: of each row, in the columns of `attention_mask` [B, N]; padding of a row on the right may be left out. first
    and last are those that are not special.
    """
    visible = attention_mask.bool()
    content = visible & ~special_tokens.bool()
    groups = {"special": visible & special_tokens.bool()}
    groups["first"] = content & (content.cumsum(1) == 1)
    groups["last"] = content & (content.flip(1).cumsum(1).flip(1) == 1)
    for name, holds in KINDS.items():
        found = torch.zeros_like(content)
        for row, own in enumerate(tokens):
            found[row, : len(own)] = torch.tensor([holds(token) for token in own], dtype=torch.bool)
        groups[name] = found & content
    return groups


def token_mass(scores: Tensor, groups: Mapping[str, Tensor], attention_mask: Tensor) -> dict[str, Tensor]:
    """Share of sum |scores| [B, N] on each group, float64 [B]; NaN where all scores are 0. Groups may overlap."""
    size = scores.double().abs() * attention_mask.bool()
    total = _sums(size)
    return {name: (_sums(size * group) / total).where(total > 0, torch.nan) for name, group in groups.items()}


def token_share(groups: Mapping[str, Tensor], attention_mask: Tensor) -> dict[str, Tensor]:
    """Share of the tokens of each group, float64 [B]: what even scores would put on it."""
    return token_mass(torch.ones_like(attention_mask, dtype=torch.float64), groups, attention_mask)


def _sums(values: Tensor) -> Tensor:
    """Row sums in the order of the columns, so that padding changes no digit."""
    return values.cumsum(1)[:, -1]
