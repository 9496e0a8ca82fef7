"""Runs rows in passes of fixed shape, and remembers what it ran."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attribution.model.inputs import Inputs
from attribution.operators import swapped_embeddings
from attribution.reading import Marks, Read

if TYPE_CHECKING:
    from attribution.model.adapter import ModelAdapter

BUCKET_STEPS = ((32, 4), (128, 8), (256, 16))  # rows up to this length are padded to a multiple of this
LONGEST_STEP = 32
SHORT = 16  # the few very short rows would mostly be filler in a full pass
BATCH_TOKENS = {"cpu": 256}  # enough to keep a core busy; more would mostly add filler rows
BATCH_TOKENS_ELSEWHERE = 8192


@dataclass(frozen=True)
class PassCounts:
    """What a run cost: rows asked for, distinct rows, model passes, their real tokens and all their positions."""

    requested: int = 0
    distinct: int = 0
    passes: int = 0
    tokens: int = 0
    positions: int = 0

    @property
    def padding(self) -> float:
        """Share of the computed positions that is padding, rows that only fill up a pass included."""
        return 1 - self.tokens / self.positions if self.positions else 0.0

    @property
    def saved(self) -> str:
        """What sharing saved, in words: `214k of 1.9M forwards run`."""
        return f"{short(self.distinct)} of {short(self.requested)} forwards run"

    def __add__(self, other: PassCounts) -> PassCounts:
        return PassCounts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def short(count: int) -> str:
    """A count in at most four characters: 214, 1.9k, 214k, 1.9M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * size:
            scaled = count / size
            return f"{scaled:.1f}{letter}" if scaled < 9.95 else f"{scaled:.0f}{letter}"
    return str(count)


@dataclass(frozen=True)
class Copies:
    """Perturbed rows laid out from the left: `inputs` [R, N], `lengths` [R], and their marks.

    swapped: [R, N] what stands in for the word embedding (EMBEDDINGS), 0 where nothing does; None: nowhere.
    """

    inputs: Inputs
    lengths: Tensor
    marks: Marks
    swapped: Tensor | None = None

    @classmethod
    def joined(cls, parts: Sequence[Copies]) -> Copies:
        """One after the other."""
        fields = {name: torch.cat([p.inputs.present()[name] for p in parts]) for name in parts[0].inputs.present()}
        marks = {name: torch.cat([p.marks.present()[name] for p in parts]) for name in parts[0].marks.present()}
        swapped = None
        if any(p.swapped is not None for p in parts):
            swapped = torch.cat(
                [torch.zeros_like(p.inputs.input_ids) if p.swapped is None else p.swapped for p in parts]
            )
        return cls(Inputs(**fields), torch.cat([p.lengths for p in parts]), Marks(**marks), swapped)

    def identity(self) -> Tensor:
        """Everything that the result of a row depends on, as one integer matrix."""
        return torch.cat([self.content(), *[mark.int() for mark in self.marks.present().values()]], 1)

    def content(self, width: int | None = None) -> Tensor:
        """Everything that the model sees of a row, of its first columns up to `width`."""
        fields = [value[:, :width] for value in self.inputs.present().values()]
        if self.swapped is not None:
            fields.append(self.swapped[:, :width])
        return torch.cat([*fields, self.lengths[:, None].int()], 1)

    def take(self, index: Tensor) -> Copies:
        """The rows of `index`."""
        swapped = None if self.swapped is None else self.swapped[index]
        return Copies(self.inputs.rows(index), self.lengths[index], self.marks.rows(index), swapped)

    def batch(self, width: int, fill: dict[str, int]) -> Inputs:
        """The rows as model inputs of this width."""
        missing = width - self.inputs.shape[1]
        fields = self.inputs.present()
        return Inputs(**{name: F.pad(v, (0, missing), value=fill.get(name, 0)).long() for name, v in fields.items()})


class Memory:
    """Logits of the copies that a model was run on, so that whoever asks for one again has it for nothing.

    What methods and metrics ask for of one batch is shared this way. Next tokens are not kept: their logits are as many
    as the vocabulary has words. `counts` is what everybody asked for, and what was run.
    """

    def __init__(self) -> None:
        self.logits: dict[bytes, Tensor] = {}
        self.counts = PassCounts()
        self._model: tuple[Any, ...] = ()

    def known(self, copies: Copies, width: int, size: int, adapter: ModelAdapter) -> tuple[list[bytes], list[int]]:
        """A key for each row, and the numbers of those rows that have not been run."""
        weights = tuple((weight.data_ptr(), weight._version) for weight in adapter.model.parameters())
        if weights != self._model:
            self.logits, self._model = {}, weights
        shape, kinds = f"{width} {size}", " ".join(copies.inputs.present())
        none = torch.zeros_like(copies.inputs.input_ids)
        every = copies if copies.swapped is not None else replace(copies, swapped=none)
        keys = [f"{shape} {kinds}".encode() + row.tobytes() for row in every.content(width).cpu().numpy()]
        return keys, [number for number, key in enumerate(keys) if key not in self.logits]


@dataclass(frozen=True)
class Passes:
    """How distinct copies are run: in passes whose shape follows from the length of their rows."""

    adapter: ModelAdapter
    batch_tokens: int
    memory: Memory | None = None

    def run(self, copies: Copies, read: Read) -> tuple[Tensor, PassCounts]:
        """What is read of each copy, and the cost."""
        widths, counts = bucket_widths(copies.lengths, _position_limit(self.adapter)), PassCounts()
        order, values = [], []
        for width in torch.unique(widths).tolist():
            members = (widths == width).nonzero().squeeze(1)
            found, cost = self._read(copies.take(members), width, read)
            order.append(members)
            values.append(found)
            counts += cost
        place = torch.cat(order).argsort()
        return torch.cat(values)[place.to(values[0].device)], counts

    def _read(self, copies: Copies, width: int, read: Read) -> tuple[Tensor, PassCounts]:
        size, rows = rows_per_pass(width, self.batch_tokens), torch.arange(len(copies.lengths))
        if self.memory is None:
            return self._in_passes(
                copies, width, size, lambda part: read(self._logits(part, width), *self._seen(part, width))
            )
        keys, fresh = self.memory.known(copies, width, size, self.adapter)
        cost = PassCounts()
        if fresh:
            logits, cost = self._in_passes(
                copies.take(rows[fresh].to(copies.lengths.device)), width, size, lambda part: self._logits(part, width)
            )
            self.memory.logits.update(zip([keys[number] for number in fresh], logits.unbind(), strict=True))
        stored = torch.stack([self.memory.logits[key] for key in keys])
        values = [
            read(stored[at], *self._seen(copies.take(at.to(copies.lengths.device)), width))
            for at in torch.split(rows, size)
        ]
        return torch.cat(values), cost

    def _in_passes(
        self, copies: Copies, width: int, size: int, run: Callable[[Copies], Tensor]
    ) -> tuple[Tensor, PassCounts]:
        n, values = len(copies.lengths), []
        for members in torch.split(torch.arange(n, device=copies.lengths.device), size):
            filled = torch.cat((members, members[-1:].expand(size - len(members))))
            values.append(run(copies.take(filled))[: len(members)])
        return torch.cat(values), PassCounts(0, n, len(values), int(copies.lengths.sum()), len(values) * size * width)

    @torch.no_grad()
    def _logits(self, copies: Copies, width: int) -> Tensor:
        batch, marks = self._seen(copies, width)
        swapped = None if copies.swapped is None else F.pad(copies.swapped, (0, width - copies.swapped.shape[1]))
        with swapped_embeddings(self.adapter, swapped):
            return self.adapter.logits(batch, marks.reads)

    def _seen(self, copies: Copies, width: int) -> tuple[Inputs, Marks]:
        device = self.adapter.device
        return copies.batch(width, fill_of(self.adapter)).to(device), copies.marks.to(device)


def bucket_widths(lengths: Tensor, limit: int | None = None) -> Tensor:
    """The padded length of rows of these lengths [R]; never above `limit`, the positions the model has."""
    step = torch.full_like(lengths, LONGEST_STEP)
    for up_to, smaller in reversed(BUCKET_STEPS):
        step = torch.where(lengths <= up_to, smaller, step)
    widths = (lengths + step - 1) // step * step
    return widths if limit is None else torch.maximum(lengths, widths.clamp(max=limit))


def rows_per_pass(width: int, batch_tokens: int) -> int:
    """How many rows of a width one pass takes: a power of two within the budget, short rows counted as SHORT long."""
    return 1 << (max(1, batch_tokens // max(width, SHORT)).bit_length() - 1)


def fill_of(adapter: ModelAdapter) -> dict[str, int]:
    """What stands behind the end of a row."""
    return {"input_ids": adapter.pad_id or 0}


def default_batch_tokens(adapter: ModelAdapter) -> int:
    """Tokens of one pass where nothing else is asked for."""
    return BATCH_TOKENS.get(adapter.device.type, BATCH_TOKENS_ELSEWHERE)


def _position_limit(adapter: ModelAdapter) -> int | None:
    """The longest input the model has positions for; None where it does not say."""
    config: Any = adapter.model.config
    limit: int | None = getattr(config, "max_position_embeddings", None)
    return limit - config.pad_token_id - 1 if limit and adapter.family.positions_after_padding else limit
