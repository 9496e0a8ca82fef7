"""Roles that heads play by where their attention goes: neighbours, sinks, the same token, everywhere, rare words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attribution.errors import InputError
from attribution.heads.intervals import Z_95
from attribution.heads.role_readings import MASSES, PROBES, ROLES, ROWS, Read, Role, Text, read_roles
from attribution.heads.scores import HeadScores
from attribution.heads.token_kinds import TokenKinds
from attribution.model.inputs import Inputs

if TYPE_CHECKING:
    from attribution.explainer import Explainer
    from attribution.model.adapter import ModelAdapter

MIN_TEXTS = 30  # fewer say too little of what a head does
RANDOM_DEVIATIONS = 3
SEQUENCES, LENGTH = 32, 24  # repeated sequences that find induction heads


@dataclass(frozen=True)
class RoleSums:
    """Values of texts added up, of `texts` [R] in which a role can be played. Sums of texts add up.

    `total` and `squares` [R, L, H] of each head's values and their squares; `even` [R] of what even attention gives.
    """

    roles: tuple[str, ...]
    total: Tensor
    squares: Tensor
    even: Tensor
    texts: Tensor

    @classmethod
    def of(cls, roles: Sequence[str], read: Read) -> RoleSums:
        """The sums of one batch."""
        values = (read.values * read.possible[:, None, None]).movedim(-1, 1)
        sums = values.sum(0), values.square().sum(0), (read.even * read.possible).sum(0), read.possible.sum(0)
        return cls(tuple(roles), *(each.cpu() for each in sums))

    def __add__(self, other: RoleSums) -> RoleSums:
        if self.roles != other.roles:
            raise ValueError(f"sums of {self.roles} and of {other.roles} do not add up")
        pairs = ((getattr(self, name), getattr(other, name)) for name in ("total", "squares", "even", "texts"))
        return RoleSums(self.roles, *(first + second for first, second in pairs))

    @property
    def mean(self) -> Tensor:
        """[R, L, H] over texts; NaN where there is none."""
        return self.total / self.texts[:, None, None]

    @property
    def chance(self) -> Tensor:
        """[R] what even attention gives, on average."""
        return self.even / self.texts

    @property
    def interval(self) -> Tensor:
        """[R, L, H, 2] 95 % interval of the mean over texts (normal approximation); NaN for fewer than two."""
        n = self.texts[:, None, None]
        variance = (self.squares / n - self.mean.square()).clamp(min=0) * n / (n - 1)
        half = Z_95 * (variance / n).sqrt()
        return torch.stack([self.mean - half, self.mean + half], -1)


def attention_roles(
    explainer: Explainer,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    report: Iterable[Mapping[str, Tensor]] | None = None,
    random: Sequence[RoleSums] = (),
    frequencies: Tensor | None = None,
) -> HeadScores:
    """Heads by the mass their rows give, on average over texts, to the previous or next token, to themselves, to
    special tokens and punctuation, to the same token elsewhere; heads that look everywhere, or at the rarest word.

    A row counts for a role where it has a key to play it with, and a text where a row counts; `baseline` is what even
    attention gives. Heads are selected on `batches` by the bars in `ROLES`; `report` selects nothing. `random`: what
    `count_roles` found of the same architecture with random weights. `frequencies` [V]: how often each token occurs in
    a corpus that these texts are not from; without them no role of rare words.
    """
    count = partial(count_roles, explainer.adapter, frequencies=frequencies)
    return role_scores(count(batches), None if report is None else count(report), random)


def induction_heads(
    explainer: Explainer, *, sequences: int = SEQUENCES, length: int = LENGTH, seed: int = 0
) -> HeadScores:
    """Heads of a decoder that look at what followed the same token before, on random sequences that are repeated."""
    return role_scores(count_induction(explainer.adapter, sequences=sequences, length=length, seed=seed))


def count_roles(
    adapter: ModelAdapter, batches: Iterable[Mapping[str, Tensor]], *, frequencies: Tensor | None = None
) -> RoleSums:
    """The sums of all roles of texts, over batches as a tokenizer returns them."""
    kinds, names = TokenKinds.of(adapter.tokenizer), [role.id for role in (*MASSES, *ROWS)]
    sums = []
    for batch in batches:
        inputs = Inputs.from_mapping(batch).to(adapter.device)
        text = Text.of(adapter, inputs, kinds, frequencies)
        sums.append(RoleSums.of(names, read_roles(MASSES, ROWS, adapter.attentions(inputs), text)))
    if not sums:
        raise InputError("conf error: heads: there is no text to find roles on; give at least one batch.")
    return reduce(add, sums)


def count_induction(
    adapter: ModelAdapter, *, sequences: int = SEQUENCES, length: int = LENGTH, seed: int = 0
) -> RoleSums:
    """The sums of the role that only repeated sequences tell. InputError for models that look ahead."""
    if not adapter.causal:
        raise InputError("conf error: heads.roles: induction is for decoders; this model sees what follows.")
    kinds, names = TokenKinds.of(adapter.tokenizer), [role.id for role in PROBES]
    sums = []
    for ids in _repeated(adapter, sequences, length, seed):
        inputs = Inputs.of(ids).to(adapter.device)
        text = Text.of(adapter, inputs, kinds)
        sums.append(RoleSums.of(names, read_roles(PROBES, (), adapter.attentions(inputs), text)))
    return reduce(add, sums)


def _repeated(adapter: ModelAdapter, sequences: int, length: int, seed: int) -> Iterator[Tensor]:
    """[1, 2 * length (+ 1)] ids: the opening token, if there is one, and `length` different tokens twice."""
    special = set(getattr(adapter.tokenizer, "all_special_ids", [])) | {adapter.pad_id, adapter.start_id}
    words = torch.tensor([i for i in range(adapter.model.config.vocab_size) if i not in special])
    generator = torch.Generator().manual_seed(seed)
    opening = torch.tensor([] if adapter.start_id is None else [adapter.start_id], dtype=torch.long)
    for _ in range(sequences):
        drawn = words[torch.randperm(len(words), generator=generator)[:length]]
        yield torch.cat((opening, drawn, drawn))[None]


def role_scores(sums: RoleSums, report: RoleSums | None = None, random: Sequence[RoleSums] = ()) -> HeadScores:
    """What `attention_roles` says of these sums; roles that no text can be played in are left out."""
    known = [i for i, texts in enumerate(sums.texts.tolist()) if texts]
    told = None if report is None else report.mean
    names = {sums.roles[i]: i for i in known}
    return HeadScores(
        scores={name: sums.mean[i] for name, i in names.items()},
        baseline={name: float(sums.chance[i]) for name, i in names.items()},
        count={name: int(sums.texts[i]) for name, i in names.items()},
        selected={name: _selected(ROLES[name], sums, i, random) for name, i in names.items()},
        report={name: None if told is None else told[i] for name, i in names.items()},
        intervals={name: sums.interval[i] for name, i in names.items()},
    )


def _selected(role: Role, sums: RoleSums, index: int, random: Sequence[RoleSums]) -> Tensor:
    bars = [role.threshold, role.times_even * float(sums.chance[index])]
    if role.beats_random and random:
        others = torch.stack([each.mean[each.roles.index(role.id)] for each in random])
        bars.append(float(others.mean() + RANDOM_DEVIATIONS * others.std()))
    above = sums.mean[index] > max(bars)
    return above & (int(sums.texts[index]) >= MIN_TEXTS) & math.isfinite(max(bars))
