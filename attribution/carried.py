"""Backwards under other rules than the gradient's, each for everything that is explained of one trace at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from attribution.errors import InputError
from attribution.relevance.node import RuleTable
from attribution.targets import Part

if TYPE_CHECKING:
    from attribution.capture import Trace

# How much several seeds carried by one backward may hold between them: tokens, and numbers at the logits.
MOST_TOKENS = 8192
MOST_LOGITS = 2**24

Found = list[Tensor | None]


class Conserved(NamedTuple):
    """Relevance [B, N, D] at a layer, and what was absorbed above it, [B] by name of what absorbed it."""

    relevance: Tensor
    absorbed: dict[str, Tensor]


class Multipliers(NamedTuple):
    """Multipliers [B, N, E] at the word embeddings, and the logits of the baseline they compare with."""

    multipliers: Tensor
    logits: Tensor


@dataclass
class Carried:
    """The parts explained of one trace, and what their backwards found, each run once for as many as it can hold."""

    trace: Trace
    parts: Sequence[Part]
    _known: dict[tuple[str, ...], dict[int, Found]] = field(default_factory=dict)
    _baseline_logits: dict[str, Tensor] = field(default_factory=dict)

    def conserved(self, part: Part, table: RuleTable, layer: int | None) -> Conserved:
        """x times the modified gradient of `table` at what enters block `layer`, None: at the word embeddings."""
        x, probes = self._site(layer), self.trace.current.probes if layer is None else {}
        known = self._known.setdefault((table.name, str(layer)), {})
        if id(part) not in known:
            group = self._group(part, known)
            seeds = torch.stack([one.gradient for one in group])
            self._keep(known, group, self._backward(table, seeds, [x, *probes.values()], absorbing=bool(probes)))
        gradient, *shares = known[id(part)]
        # What the output cannot reach carries nothing.
        relevance = torch.zeros_like(x) if gradient is None else x.detach() * gradient
        nothing = relevance.new_zeros(len(relevance))
        absorbed = {name: nothing if share is None else share for name, share in zip(probes, shares, strict=True)}
        return Conserved(relevance, absorbed)

    def multipliers(
        self, part: Part, table: RuleTable, baseline: str, embeddings: Tensor, seed_of: Callable[[Part, Tensor], Tensor]
    ) -> Multipliers:
        """Multipliers of the word embeddings against `embeddings` [B, N, E], known by the name `baseline`.

        seed_of: the multiplier of the logits, from the part and the logits of the baseline.
        """
        known = self._known.setdefault((table.name, baseline), {})
        if id(part) not in known:
            group = self._group(part, known)
            logits, self.trace.current.reference = self.trace.compared_with(embeddings)
            self._baseline_logits[baseline] = logits
            seeds = torch.stack([seed_of(one, logits) for one in group])
            self._keep(known, group, self._backward(table, seeds, [self.trace.embeddings]))
            self.trace.current.reference = ()
        (found,) = known[id(part)]
        multipliers = torch.zeros_like(self.trace.embeddings) if found is None else found
        return Multipliers(multipliers, self._baseline_logits[baseline])

    def _site(self, layer: int | None) -> Tensor:
        if layer is None:
            return self.trace.embeddings
        if not 0 <= layer < len(self.trace.hidden):
            raise InputError(f"layer={layer} is not a block of the model; choices: 0 to {len(self.trace.hidden) - 1}")
        return self.trace.hidden[layer]

    def _group(self, part: Part, known: dict[int, Found]) -> list[Part]:
        """The part, and as many others that are not known yet as one backward may carry."""
        rest = [one for one in self.parts if one is not part and id(one) not in known]
        logits = self.trace.logits.numel()
        size = min(MOST_TOKENS // self.trace.visible.numel(), MOST_LOGITS // logits)
        return [part, *rest][: max(1, size)]

    def _backward(self, table: RuleTable, seeds: Tensor, taps: Sequence[Tensor], *, absorbing: bool = False) -> Found:
        """What arrives at `taps` of each of `seeds` [S, like the logits], [S, ...] at each."""
        self.trace.current.absorbing = absorbing
        if len(seeds) > 1:
            return self.trace.backward(table, seeds, taps, several=True)
        return [None if found is None else found[None] for found in self.trace.backward(table, seeds[0], taps)]

    def _keep(self, known: dict[int, Found], group: Sequence[Part], found: Found) -> None:
        for number, part in enumerate(group):
            known[id(part)] = [None if one is None else one[number] for one in found]
