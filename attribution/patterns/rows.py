"""From where a pattern holds to what each row of a head attends to, rows included for which it allows no key."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from attribution.errors import InputError
from attribution.model.edits import Scale
from attribution.patterns.schema import Pattern
from attribution.patterns.tokens import Tokens


class Rows(NamedTuple):
    """`keys` bool [B, N, N]: what each query attends to, one at least; `content` bool [B, N]: whether by content."""

    keys: Tensor
    content: Tensor

    @property
    def weights(self) -> Tensor:
        """[B, N, N] the attention of a head that asks for no content."""
        return self.keys / self.keys.sum(-1, keepdim=True)


def _itself(legal: Tensor, _real: Tensor) -> Tensor:
    return torch.eye(legal.shape[-1], dtype=torch.bool, device=legal.device) & legal


def _first(legal: Tensor, real: Tensor) -> Tensor:
    first = torch.arange(real.shape[1], device=real.device) == real.long().argmax(1, keepdim=True)
    return first[:, None, :] & legal


# What a row attends to for which the pattern allows no key, of what the model lets it see.
_EDGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "self": _itself,
    "cls": _first,
    "uniform": lambda legal, _real: legal,
    "original": lambda legal, _real: legal,
}


def rows_of(pattern: Pattern, holds: Tensor, legal: Tensor, real: Tensor) -> Rows:
    """The rows of a pattern that holds at `holds` [B, N, N], where the model lets queries see `legal` [B, N, N].

    Rows of padding, which nothing reads, keep what the model lets them see.
    """
    legal = legal & real[:, None, :]
    inside = holds & legal
    empty = ~inside.any(-1)
    outside = torch.where(real[..., None], _EDGES[pattern.edge](legal, real), legal)
    keys = torch.where(empty[..., None], outside, inside)
    keys = keys | (~keys.any(-1, keepdim=True) & torch.eye(keys.shape[-1], dtype=torch.bool, device=keys.device))
    by_content = torch.tensor(pattern.mode == "mask", device=keys.device)
    return Rows(
        keys, torch.where(empty & real, torch.tensor(pattern.edge == "original", device=keys.device), by_content)
    )


class RunningPatterns:
    """The patterns of one forward, layer by layer. `layers`: of each layer, patterns by the number of the head."""

    def __init__(
        self, patterns: Mapping[str, Pattern], layers: Sequence[Mapping[int, str]], tokens: Tokens,
        dropout_on_fixed: bool = False,
    ) -> None:  # fmt: skip
        self.patterns, self.layers, self.tokens, self.calls = patterns, layers, tokens, 0
        self.dropout_on_fixed = dropout_on_fixed
        self.holds = {name: pattern.pred(tokens) & tokens.visible for name, pattern in patterns.items()}

    def next(self, scores: Tensor, scale: Scale, mask: Tensor | None) -> tuple[Scale, Tensor | None]:
        """Scale and mask of the next layer's scores [B, H, N, N]."""
        heads, self.calls = self.layers[self.calls], self.calls + 1
        return self.applied(heads, scores, scale, mask) if heads else (scale, mask)

    def dropped_out(self, attention: Tensor, scale: Scale, rate: float) -> Tensor:
        """Dropout at `rate`; rows without content keep their weights unless `dropout_on_fixed`."""
        dropped = F.dropout(attention, rate, training=rate > 0)
        if self.dropout_on_fixed or not isinstance(scale, Tensor):
            return dropped
        return torch.where(scale == 0, attention, dropped)

    def applied(
        self, heads: Mapping[int, str], scores: Tensor, scale: Scale, mask: Tensor | None
    ) -> tuple[Scale, Tensor]:
        """Scale [B, H, N, 1] and mask [B, H, N, N] with these heads changed and all others as they were."""
        if scores.shape[-2:] != (length := self.tokens.ids.shape[1], length):
            raise InputError("patterns: a text has to be read in one go; run the model with use_cache=False.")
        masks = torch.zeros_like(scores) if mask is None else mask.to(scores.dtype).expand(scores.shape).clone()
        scales = scores.new_ones(scores.shape[:3]) * scale
        legal = masks[:, 0] == 0
        for name in dict.fromkeys(heads.values()):
            rows = rows_of(self.patterns[name], self.holds[name], legal, self.tokens.real)
            own = [head for head, pattern in heads.items() if pattern == name]
            masks[:, own] = torch.zeros_like(scores[:, 0]).masked_fill(~rows.keys, -torch.inf)[:, None]
            scales[:, own] = scales[:, own] * rows.content[:, None]
        return scales[..., None], masks
