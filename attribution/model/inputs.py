"""A batch of token ids as the model reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

ABOUT_TEXT = ("special_tokens_mask", "word_ids", "sentence_ids")  # what models are not given


@dataclass(frozen=True)
class Inputs:
    """Token ids with what belongs to each position; every field is [B, N], padding on either side.

    `attention_mask` 0 hides a position from the model: padding, or a separator hidden while explaining. `word_ids` and
    `sentence_ids` number the words and sentences of the whole input, -1 for special tokens.
    """

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor | None = None
    position_ids: Tensor | None = None
    special_tokens_mask: Tensor | None = None
    word_ids: Tensor | None = None
    sentence_ids: Tensor | None = None

    @classmethod
    def of(cls, input_ids: Tensor, attention_mask: Tensor | None = None, **rest: Tensor | None) -> Inputs:
        """Inputs with a mask of ones where none is given."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return cls(input_ids, mask.to(torch.long), **rest)

    @classmethod
    def from_mapping(cls, batch: Mapping[str, Tensor]) -> Inputs:
        """Inputs from what a tokenizer returns; keys that are not model inputs are ignored."""
        known = {field.name for field in fields(cls)}
        return cls.of(**{name: value for name, value in batch.items() if name in known})

    @property
    def shape(self) -> tuple[int, int]:
        """(B, N)."""
        return self.input_ids.shape[0], self.input_ids.shape[1]

    def present(self) -> dict[str, Tensor]:
        """The fields that are set, by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}

    def to(self, device: torch.device | str) -> Inputs:
        """The same batch on another device."""
        return replace(self, **{name: value.to(device) for name, value in self.present().items()})

    def rows(self, index: Tensor | slice) -> Inputs:
        """The rows selected by `index`."""
        return replace(self, **{name: value[index] for name, value in self.present().items()})


FILL = {"special_tokens_mask": 1, "word_ids": -1, "sentence_ids": -1}  # what padding is, where it is not 0


def padded_rows(inputs: Inputs, rows: Sequence[tuple[int, Sequence[int]]], pad_id: int) -> Inputs:
    """Rows made of columns of rows, (row, columns) each, padded on the right."""
    width = max(len(columns) for _, columns in rows)
    fields = {}
    for name, value in inputs.present().items():
        fill = pad_id if name == "input_ids" else FILL.get(name, 0)
        fields[name] = value.new_full((len(rows), width), fill)
        for new, (row, columns) in enumerate(rows):
            fields[name][new, : len(columns)] = value[row, torch.as_tensor(columns)]
    return Inputs(**fields)


def alone(inputs: Inputs, row: int) -> Inputs:
    """One row [1, n] without what is padded behind it."""
    end = int(inputs.attention_mask[row].nonzero().max()) + 1
    return Inputs(**{name: value[row : row + 1, :end] for name, value in inputs.present().items()})


def together(several: Sequence[Inputs], pad_id: int) -> Inputs:
    """The rows of batches with the same fields, one after the other, padded on the right."""
    width = max(each.shape[1] for each in several)
    fill = {**FILL, "input_ids": pad_id}

    def wide(name: str, each: Inputs) -> Tensor:
        return F.pad(each.present()[name], (0, width - each.shape[1]), value=fill.get(name, 0))

    return Inputs(**{name: torch.cat([wide(name, each) for each in several]) for name in several[0].present()})
