"""What token-to-token methods cost on a random bert-base, one thread, in plain forwards of the same text."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from attribution_cost import bert_base
from timing import Ratio, ratio

from attribution import Explainer

FULL_LIMITS = {32: 10, 64: 24}
ROW_LIMIT = 1.7


def costs() -> Iterator[Ratio]:
    """The ratios, one after another."""
    model = bert_base()
    explainer = Explainer(model)
    for length, limit in FULL_LIMITS.items():
        ids = torch.randint(1000, 20000, (1, length), generator=torch.Generator().manual_seed(1))
        forward, mixing = partial(_forward, model, ids), partial(explainer.context_mixing, ids)
        unit = f"forward of {length} tokens"
        zeroing = partial(mixing, method="value_zeroing")
        yield ratio(f"value_zeroing, N={length}", zeroing, unit, forward, limit=limit, rounds=5)
        yield ratio("  one row, all layers", partial(zeroing, rows=[length // 2]), unit, forward, limit=ROW_LIMIT)
        for method in ("attention_norm", "globenc", "alti"):
            yield ratio(f"  {method}", partial(mixing, method=method), unit, forward, rounds=3)


def _forward(model: torch.nn.Module, ids: torch.Tensor) -> None:
    with torch.no_grad():
        model(ids)
