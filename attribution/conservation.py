"""How well a method conserves what it explains, over many examples: what arrives, and what absorbs the rest.

Source: Ali et al. 2022, section 4 (the sum of relevance against the explained logit); shares as in our documentation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attribution.relevance.node import ABSORBING

# The facts of a method that conserves, or is meant to: [E] over examples. A gradient without rules has the sums alone.
ABSORBED = tuple(dict.fromkeys(f"absorbed_by_{name}" for _, name in ABSORBING.values()))
SUMS = ("explained", "relevance")
FACTS = (*SUMS, *ABSORBED)

Column = Tensor | Sequence[float]


@dataclass(frozen=True)
class Conservation:
    """What became of what was explained.

    slope, correlation: of the sum of relevance against what is explained, over examples; 1 where all arrives. NaN where
        nothing varies. relative_error: mean of |relevance - explained| / |explained|. The shares add up to 1: each is
        sum(share with the sign of what is explained) / sum |explained|. NaN where a method does not know what was
        absorbed; that is then among what was lost.
    """

    n: int
    slope: float
    correlation: float
    relative_error: float
    relevance: float
    absorbed_by_biases: float
    absorbed_by_positions: float
    lost: float


def conservation(facts: Mapping[str, Column]) -> Conservation:
    """Sum up the facts of examples, each [E] by name as in FACTS; examples that explain 0 have no relative error."""
    known = {name: torch.as_tensor(facts[name], dtype=torch.float64).flatten() for name in FACTS if name in facts}
    explained, relevance = (known[name] for name in SUMS)
    total, sign = explained.abs().sum(), explained.sign()
    arrived = {name: ((x * sign).sum() / total).item() for name, x in known.items() if name != "explained"}
    shares = {name: arrived.get(name, math.nan) for name in FACTS[1:]}
    some = explained != 0
    error = ((relevance - explained).abs()[some] / explained.abs()[some]).mean().item()
    slope, correlation = _line(explained, relevance)
    return Conservation(len(explained), slope, correlation, error, lost=1 - sum(arrived.values()), **shares)


def _line(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Least-squares slope of y on x, and their correlation."""
    dx, dy = x - x.mean(), y - y.mean()
    across, along, up = (dx * dy).sum(), (dx * dx).sum(), (dy * dy).sum()
    return (across / along).item(), (across / (along * up).sqrt()).item()
