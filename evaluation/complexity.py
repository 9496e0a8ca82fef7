"""How concentrated an explanation is, whatever the model. Importing this needs no torch.

Of the sizes |a| of the scores of tokens that are ranked, special ones left out; values do not depend on their scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from evaluation.metric import Metric, register

if TYPE_CHECKING:
    from torch import Tensor

    from evaluation.association import Floats

ZERO = "of texts without tokens; where all scores are 0"


def _of_shares(scores: Tensor, tokens: Tensor, value: Callable[[Floats], float]) -> Tensor:
    """A value of each example from |a| / max |a| of its own tokens, [B]; NaN where there is none, or all are 0."""
    import torch

    rows = zip(scores.double().abs().cpu().numpy(), tokens.bool().cpu().numpy(), strict=True)
    sizes = [row[ranked] for row, ranked in rows]
    found = [value(own / own.max()) if own.size and 0 < own.max() < math.inf else math.nan for own in sizes]
    return torch.tensor(found, dtype=torch.float64)


def gini(scores: Tensor, tokens: Tensor) -> Tensor:
    """Gini index, [B]: 0 where all tokens have the same share, 1 - 1/n where one has everything."""
    import numpy as np

    def index(own: Floats) -> float:
        n = len(own)
        return float(((2 * np.arange(1, n + 1) - n - 1) * np.sort(own)).sum() / (n * own.sum()))

    return _of_shares(scores, tokens, index)


def entropy(scores: Tensor, tokens: Tensor) -> Tensor:
    """Entropy of the shares |a| / sum |a| over its largest value ln n, [B]; NaN of a single token."""
    import numpy as np

    def normalised(own: Floats) -> float:
        if len(own) == 1:
            return math.nan
        share = own[own > 0] / own.sum()
        return float(-(share * np.log(share)).sum() / math.log(len(own))) + 0.0

    return _of_shares(scores, tokens, normalised)


def effective_complexity(scores: Tensor, tokens: Tensor, *, floor: float = 0.01) -> Tensor:
    """Share of the tokens whose |a| is above `floor` of the largest, [B]."""
    return _of_shares(scores, tokens, lambda own: float((own > floor).mean()))


def top_share(scores: Tensor, tokens: Tensor) -> Tensor:
    """Share of the largest |a| in all, [B]."""
    return _of_shares(scores, tokens, lambda own: float(1 / own.sum()))


def tokens_of_mass(scores: Tensor, tokens: Tensor, *, mass: float = 0.9) -> Tensor:
    """Share of the tokens that it takes, the largest first, to have this share of the whole, [B]."""
    import numpy as np

    def share(own: Floats) -> float:
        reached = np.cumsum(np.sort(own)[::-1]) / own.sum()
        return float((int((reached < mass - 1e-12).sum()) + 1) / len(own))

    return _of_shares(scores, tokens, share)


def _metric(
    id: str, compute: Callable[..., Tensor], formula: str, higher_is_better: bool, source: str, **rest: Any
) -> None:
    about = {"undefined": ZERO, "category": "complexity", "needs": ("scores", "tokens"), **rest}
    register(Metric(id, formula, higher_is_better, (0, 1), source, compute=compute, **about))


_metric(
    "gini", gini, "sum_i (2i - n - 1) v_i / (n sum v), v = |a| ascending", True,
    "Chalasani et al. 2020, arXiv 1810.06583", aliases=("sparseness",),
)  # fmt: skip
_metric(
    "entropy", entropy, "-sum_i s_i ln s_i / ln n, s = |a| / sum |a|", False, "Bhatt et al. 2020, arXiv 2005.00631",
    aliases=("complexity",), undefined=f"{ZERO}; of a single token",
)  # fmt: skip
_metric(
    "effective_complexity", effective_complexity, "share of tokens with |a| > 1 % of the largest", False,
    "Nguyen & Martinez 2020, arXiv 2007.07584",
)  # fmt: skip
_metric("top_1_mass", top_share, "max |a| / sum |a|", True, "share of the largest score")
_metric("mass_90", tokens_of_mass, "share of tokens that hold 90 % of sum |a|", False, "tokens for 90 % of the mass")
