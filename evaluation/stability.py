"""Sanity and robustness: what becomes of an explanation when the model, the class, the input or the seed is another.

Values of explanations that were made before (`evaluation.randomised`); special tokens are left out, since what is the
same in every text would make all explanations alike. Importing this needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from typing import TYPE_CHECKING, Any

from evaluation.metric import Metric, register

if TYPE_CHECKING:
    from torch import Tensor

    from evaluation.association import Floats

TOP = 5


def _each(scores: Tensor, others: Tensor, tokens: Tensor, value: Callable[[Floats, Floats], float]) -> Tensor:
    """A value of each example from its own tokens' scores [n] and the other explanations' [M, n]; NaN where one is."""
    import numpy as np
    import torch

    stacked = others if others.dim() == 3 else others[:, None]
    columns = (each.cpu().numpy() for each in (scores.double(), stacked.double(), tokens.bool()))
    found = []
    for own, other, ranked in zip(*columns, strict=True):
        a, b = own[ranked], other[:, ranked]
        found.append(value(a, b) if a.size and not np.isnan(a).any() and not np.isnan(b).any() else math.nan)
    return torch.tensor(found, dtype=torch.float64)


def mean_rank_correlation(scores: Tensor, randomised: Tensor, tokens: Tensor) -> Tensor:
    """Mean over randomised models of the Spearman correlation with their explanations [B, M, N]: [B]."""
    import numpy as np

    from evaluation.association import spearman

    def mean(own: Floats, others: Floats) -> float:
        found = [each for each in (spearman(own, other) for other in others) if not math.isnan(each)]
        return float(np.mean(found)) if found else math.nan

    return _each(scores, randomised, tokens, mean)


def entropy_rise(scores: Tensor, randomised: Tensor, tokens: Tensor) -> Tensor:
    """(H(last randomised) - H(a)) / H(a), H the entropy of the shares |a| / sum |a|: [B]."""
    import numpy as np

    def entropy(values: Floats) -> float:
        share = np.abs(values[values != 0]) / np.abs(values).sum()
        return float(-(share * np.log(share)).sum())

    def rise(own: Floats, others: Floats) -> float:
        if not own.any() or not others[-1].any() or (before := entropy(own)) <= 0:
            return math.nan
        return entropy(others[-1]) / before - 1

    return _each(scores, randomised, tokens, rise)


def class_correlation(scores: Tensor, other_class: Tensor, tokens: Tensor) -> Tensor:
    """Spearman correlation with the explanation of another class [B, N]; NaN where both are the same: [B]."""
    from evaluation.association import spearman

    def correlation(own: Floats, others: Floats) -> float:
        return math.nan if (own == others[0]).all() else spearman(own, others[0])

    return _each(scores, other_class, tokens, correlation)


def label_correlation(scores: Tensor, shuffled: Tensor, tokens: Tensor) -> Tensor:
    """Spearman correlation with the explanation [B, N] of a model trained on shuffled labels: [B]."""
    return mean_rank_correlation(scores, shuffled, tokens)


def _relative_changes(own: Floats, others: Floats) -> Any:
    import numpy as np

    size = np.sqrt((own * own).sum())
    return np.sqrt(((others - own) ** 2).sum(1)) / size if size > 0 else np.array([math.nan])


def largest_change(scores: Tensor, neighbours: Tensor, tokens: Tensor) -> Tensor:
    """Max over neighbours of |a(x') - a(x)| / |a(x)|, Euclidean: [B]."""
    return _each(scores, neighbours, tokens, lambda own, others: float(_relative_changes(own, others).max()))


def mean_change(scores: Tensor, neighbours: Tensor, tokens: Tensor) -> Tensor:
    """Mean over neighbours of |a(x') - a(x)| / |a(x)|, Euclidean: [B]."""
    return _each(scores, neighbours, tokens, lambda own, others: float(_relative_changes(own, others).mean()))


def top_overlap(scores: Tensor, neighbours: Tensor, tokens: Tensor) -> Tensor:
    """Mean over neighbours of the Jaccard overlap of the top 5 tokens by |a|: [B]."""
    import numpy as np

    from evaluation.agreement import top_k_jaccard

    return _each(
        scores, neighbours, tokens, lambda own, others: float(np.mean([top_k_jaccard(own, o, TOP) for o in others]))
    )


def seed_kendall(scores: Tensor, reruns: Tensor, tokens: Tensor) -> Tensor:
    """Mean Kendall's tau-b of every two of the explanation and its reruns [B, S, N] with other seeds: [B]."""
    import numpy as np

    from evaluation.association import kendall

    def mean(own: Floats, others: Floats) -> float:
        return float(np.mean([kendall(a, b) for a, b in combinations([own, *others], 2)]))

    return _each(scores, reruns, tokens, mean)


def dtype_kendall(scores: Tensor, other_dtype: Tensor, tokens: Tensor) -> Tensor:
    """Kendall's tau-b with the explanation of the model in another dtype [B, N]: [B]."""
    from evaluation.association import kendall

    return _each(scores, other_dtype, tokens, lambda own, others: kendall(own, others[0]))


CONSTANT = "of fewer than two tokens; where scores are all the same"
ZERO = "of texts without tokens; where all scores are 0"


def _metric(
    id: str, compute: Callable[..., Tensor], other: str, formula: str, source: str, category: str, **rest: Any
) -> None:
    about = {"higher_is_better": False, "range": (-1, 1), "undefined": CONSTANT, **rest}
    register(
        Metric(
            id, formula, source=source, needs=("scores", other, "tokens"), compute=compute, category=category, **about
        )
    )


ADEBAYO = "Adebayo et al. 2018, arXiv 1810.03292"
_metric(
    "mprt", mean_rank_correlation, "randomised", "mean over randomised models of Spearman(a, a of that model)", ADEBAYO,
    "randomisation",
)  # fmt: skip
_metric(
    "efficient_mprt", entropy_rise, "randomised", "(H(a of the model randomised throughout) - H(a)) / H(a)",
    "Hedström et al. 2024, arXiv 2401.06465, with the entropy of |a|", "randomisation", higher_is_better=True,
    range=(-1, math.inf), undefined="where one token has everything, or nothing has any score",
)  # fmt: skip
_metric(
    "random_logit", class_correlation, "other_class", "Spearman(a for c, a for another class)",
    "Sixt et al. 2020, arXiv 1912.09818", "randomisation",
    undefined=f"{CONSTANT}; of class-blind methods, which explain all classes alike",
)  # fmt: skip
_metric(
    "label_randomisation", label_correlation, "shuffled", "Spearman(a, a of the same model trained on shuffled labels)",
    f"{ADEBAYO} (data randomisation test)", "randomisation",
)  # fmt: skip
_metric(
    "max_sensitivity", largest_change, "neighbours", "max over neighbours x' of |a(x') - a(x)| / |a(x)|",
    "Yeh et al. 2019, arXiv 1901.09392", "robustness", range=(0, math.inf), undefined=ZERO,
)  # fmt: skip
_metric(
    "avg_sensitivity", mean_change, "neighbours", "mean over neighbours x' of |a(x') - a(x)| / |a(x)|",
    "Yeh et al. 2019, arXiv 1901.09392", "robustness", range=(0, math.inf), undefined=ZERO,
)  # fmt: skip
_metric(
    "top_k_stability", top_overlap, "neighbours", "mean over neighbours x' of the Jaccard overlap of the top 5 by |a|",
    "top-k intersection of Ghorbani et al. 2019, arXiv 1710.10547", "robustness", higher_is_better=True, range=(0, 1),
    undefined="of texts without tokens",
)  # fmt: skip
_metric(
    "seed_stability", seed_kendall, "reruns", "mean Kendall tau-b of every two explanations with different seeds",
    "pairs of seeds", "robustness", higher_is_better=True,
)  # fmt: skip
_metric(
    "dtype_stability", dtype_kendall, "other_dtype", "Kendall tau-b(a, a of the model in another dtype)",
    "single against half precision", "robustness", higher_is_better=True,
)  # fmt: skip
