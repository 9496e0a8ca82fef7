"""What a head's attention says of its role in each text: the mass it gives to some pairs, or what its rows are like.

A mass is the mean over the rows that have a legal key of the weight on those keys; offsets are key - query.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attribution.heads.attention_importance import row_entropies, visible_keys
from attribution.heads.roles import answer
from attribution.heads.token_kinds import TokenKinds

if TYPE_CHECKING:
    from attribution.model.adapter import ModelAdapter
    from attribution.model.inputs import Inputs

CLARK = "Clark et al. 2019, arXiv 1906.04341"
COMMON = 500  # Voita et al. count sentences whose rarest token is not among so many of the most frequent ones


@dataclass(frozen=True)
class Text:
    """Rows of one batch as roles read them, padding on either side."""

    ids: Tensor  # [B, N]
    visible: Tensor  # bool [B, N]
    special: Tensor  # bool [B, N], padding too
    kinds: TokenKinds
    causal: bool
    frequencies: Tensor | None = None  # [V] how often each token occurs in a corpus

    @classmethod
    def of(cls, adapter: ModelAdapter, inputs: Inputs, kinds: TokenKinds, frequencies: Tensor | None = None) -> Text:
        """The text of a batch."""
        visible = inputs.attention_mask.bool()
        return cls(inputs.input_ids, visible, adapter.special_tokens(inputs), kinds, adapter.causal, frequencies)

    @cached_property
    def seen(self) -> Tensor:
        """Bool [B, N, N]: which keys each query may see."""
        pairs = self.visible[:, :, None] & self.visible[:, None, :]
        return pairs.tril() if self.causal else pairs

    @cached_property
    def keys(self) -> Tensor:
        """[B, N] how many these are."""
        return visible_keys(self.visible, self.causal)

    @cached_property
    def offsets(self) -> Tensor:
        """[N, N] key - query."""
        place = torch.arange(self.ids.shape[1], device=self.ids.device)
        return place[None, :] - place[:, None]

    def of_kind(self, kind: str) -> Tensor:
        """Bool [B, N]: tokens of a kind."""
        return self.kinds.among(self.ids, kind)


@dataclass(frozen=True)
class Role:
    """A role, and from where on a head plays it: all bars that are given have to be exceeded."""

    id: str
    source: str
    threshold: float = 0.0
    times_even: float = 0.0  # so many times what even attention would give
    beats_random: bool = (
        False  # and the mean of random models' heads by three standard deviations, where these are known
    )


@dataclass(frozen=True)
class MassRole(Role):
    """The mean mass of rows on the pairs [B, N, N] or [N, N] that count."""

    pairs: Callable[[Text], Tensor] = field(kw_only=True)


@dataclass(frozen=True)
class RowRole(Role):
    """The mean of a value of each row [B, H, N]; which rows count [B, N]; what even attention gives [B]."""

    rows: Callable[[Tensor, Text], Tensor] = field(kw_only=True)
    counted: Callable[[Text], Tensor] = field(kw_only=True)
    even: Callable[[Text], Tensor] = field(kw_only=True)


def _at(offset: int) -> Callable[[Text], Tensor]:
    return lambda text: text.offsets == offset


def _to(kind: str) -> Callable[[Text], Tensor]:
    return lambda text: text.of_kind(kind)[:, None, :].expand_as(text.seen)


def _separators(from_separators: bool) -> Callable[[Text], Tensor]:
    def pairs(text: Text) -> Tensor:
        own = text.of_kind("separators")
        return own[:, None, :] & (own == from_separators)[:, :, None]

    return pairs


def _to_start(text: Text) -> Tensor:
    first = text.visible & (text.visible.cumsum(1) == 1)
    return first[:, None, :].expand_as(text.seen) & torch.tensor(text.causal, device=first.device)


def _same_token(text: Text) -> Tensor:
    """Other places of the same token, of tokens with a letter."""
    same = (text.ids[:, :, None] == text.ids[:, None, :]) & (text.offsets != 0)
    return same & ~(text.special | text.of_kind("without_letters"))[:, None, :]


def _after_same_token(text: Text) -> Tensor:
    """What follows an earlier place of the same token."""
    before = torch.nn.functional.pad(text.ids, (1, -1), value=-1)
    return (text.ids[:, :, None] == before[:, None, :]) & (text.offsets <= 0)


def _normalized_entropies(attention: Tensor, text: Text) -> Tensor:
    return row_entropies(attention, text.keys) / text.keys.clamp(min=2).log()[:, None]


def _looks_at_rarest(attention: Tensor, text: Text) -> Tensor:
    target = answer(attention.masked_fill(~text.visible[:, None, None, :], 0))
    rare = _rarest(text)[:, None].expand(target.shape)
    return rare.gather(2, target.clamp(min=0)) & (target >= 0)


def _rarest(text: Text) -> Tensor:
    """Bool [B, N]: the least frequent tokens of each text, special ones left out; several where they are equals."""
    often = _often(text)
    return (often == often.amin(1, keepdim=True)) & often.isfinite()


def _often(text: Text) -> Tensor:
    assert text.frequencies is not None
    found = text.frequencies.to(text.ids.device).double()[text.ids]
    return found.masked_fill(text.special | ~text.visible, torch.inf)


def _words_of_rare_texts(text: Text) -> Tensor:
    """Bool [B, N]: tokens that are not special, of texts whose rarest token is an uncommon one."""
    words = text.visible & ~text.special
    if text.frequencies is None:
        return torch.zeros_like(words)
    ordered = text.frequencies.double().sort(descending=True).values
    common = ordered[min(COMMON, len(ordered)) - 1].to(words.device)
    return words & (_often(text).amin(1, keepdim=True) < common)


def _share_of_rarest(text: Text) -> Tensor:
    if text.frequencies is None:
        return torch.zeros(len(text.ids), dtype=torch.float64, device=text.ids.device)
    return _rarest(text).sum(1) / text.visible.sum(1).clamp(min=1).double()


def _with_a_choice(text: Text) -> Tensor:
    return text.visible & (text.keys > 1)


def _all_even(text: Text) -> Tensor:
    return torch.ones(len(text.ids), dtype=torch.float64, device=text.ids.device)


MASSES = (
    MassRole("previous", CLARK, 0.5, pairs=_at(-1)),
    MassRole("next", CLARK, 0.5, pairs=_at(1)),
    MassRole("self", "the diagonal, ours", 0.5, pairs=_at(0)),
    MassRole("sink:cls", CLARK, 0.6, pairs=_to("opening")),
    MassRole("sink:sep", CLARK, 0.6, pairs=_to("separators")),
    MassRole("sep:from_sep", CLARK, 0.6, pairs=_separators(True)),
    MassRole("sep:from_others", CLARK, 0.6, pairs=_separators(False)),
    MassRole("sink:punct", CLARK, 0.6, pairs=_to("punctuation")),
    MassRole("sink:bos", "first token of decoders, ours", 0.5, pairs=_to_start),
    MassRole("match", "Li et al. 2022, arXiv 2112.05364", times_even=3, beats_random=True, pairs=_same_token),
)
ROWS = (
    RowRole("broad", f"{CLARK}: 3.8 nats of 128 tokens", 0.78, rows=_normalized_entropies, counted=_with_a_choice,
            even=_all_even),
    RowRole("rare", "Voita et al. 2019, arXiv 1905.09418", 0.5, times_even=3, rows=_looks_at_rarest,
            counted=_words_of_rare_texts, even=_share_of_rarest),
)  # fmt: skip
PROBES = (
    MassRole("induction", "Olsson et al. 2022, arXiv 2209.11895, on repeated sequences", 0.5, pairs=_after_same_token),
)
ROLES: dict[str, Role] = {role.id: role for role in (*MASSES, *ROWS, *PROBES)}


@dataclass(frozen=True)
class Read:
    """Of a batch: the value of each head in each text, in which texts a role can be played, and what even attention
    gives there.
    """

    values: Tensor  # [B, L, H, R] float64, 0 where it cannot
    possible: Tensor  # bool [B, R]
    even: Tensor  # [B, R] float64


def read_roles(masses: Sequence[MassRole], rows: Sequence[RowRole], attentions: Sequence[Tensor], text: Text) -> Read:
    """All roles, masses first, of L x [B, H, N, N]."""
    parts = [_masses(masses, attentions, text), *(_rows(role, attentions, text) for role in rows)]
    return Read(
        torch.cat([part.values for part in parts], -1),
        torch.cat([part.possible for part in parts], -1),
        torch.cat([part.even for part in parts], -1),
    )


def _masses(roles: Sequence[MassRole], attentions: Sequence[Tensor], text: Text) -> Read:
    """All at once: a product of the attention with the share that each pair has in each role."""
    several = (text.keys > 1)[:, :, None]  # a row that sees one token has no choice
    legal = torch.stack([role.pairs(text) & text.seen & several for role in roles], 1)
    counted = legal.any(3)
    rows = counted.sum(2).clamp(min=1).double()
    even = (legal.sum(3) / text.keys.clamp(min=1)[:, None]).sum(2) / rows
    share = (legal / rows[..., None, None]).flatten(2).transpose(1, 2)  # [B, N * N, R]
    values = [attention.flatten(2).double() @ share for attention in attentions]
    return Read(torch.stack(values, 1), counted.any(2), even)


def _rows(role: RowRole, attentions: Sequence[Tensor], text: Text) -> Read:
    counted = role.counted(text)
    weight = counted.double() / counted.sum(1, keepdim=True).clamp(min=1)
    if bool(counted.any()):
        values = torch.stack([(role.rows(each, text).double() * weight[:, None]).sum(-1) for each in attentions], 1)
    else:
        values = attentions[0].new_zeros(len(weight), len(attentions), attentions[0].shape[1], dtype=torch.float64)
    return Read(values[..., None], counted.any(1)[:, None], role.even(text)[:, None])
