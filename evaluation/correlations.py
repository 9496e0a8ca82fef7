"""Faithfulness from removed sets of units: do the scores go with what the removal costs? Importing this needs no torch.

Every value is computed from one example's own numbers, see `evaluation.association`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from evaluation.metric import Metric, register

if TYPE_CHECKING:
    from torch import Tensor

    from evaluation.removals import Effects, Removals

SIGNED = (-1.0, 1.0)
CONSTANT = "of fewer than two units or sets; where scores or effects are all the same"


def _each(scores: Tensor, removals: Removals, output: str, value: Callable[[Effects], float]) -> Tensor:
    """A value of each example, float64 [B]; NaN where one of its scores is."""
    import torch

    found = [math.nan if _spoilt(each) else value(each) for each in removals.examples(scores, output)]
    return torch.tensor(found, dtype=torch.float64)


def _spoilt(effects: Effects) -> bool:
    return bool(effects.scores.size and math.isnan(effects.scores.sum()))


def leave_one_out_kendall(scores: Tensor, removals: Removals, *, output: str = "probability") -> Tensor:
    """Kendall's tau-b of the scores and of what leaving out each unit costs, [B]."""
    from evaluation.association import kendall

    return _each(scores, removals, output, lambda each: kendall(each.sums, each.drops))


def set_correlation(scores: Tensor, removals: Removals, *, output: str = "logit") -> Tensor:
    """Pearson correlation over sets of the scores' sum and of what leaving out the set costs, [B]."""
    from evaluation.association import pearson

    return _each(scores, removals, output, lambda each: pearson(each.sums, each.drops))


def correlation_by_size(scores: Tensor, removals: Removals, *, output: str = "logit") -> Tensor:
    """Pearson correlation over the sets of each size, the mean over sizes at which it is defined: [B]."""
    import numpy as np

    def mean(each: Effects) -> float:
        found = sizes_of(each)
        return float(np.nanmean(found)) if np.isfinite(found).any() else math.nan

    return _each(scores, removals, output, mean)


def sizes_of(effects: Effects) -> Any:
    """Pearson correlation over the sets of each size, [sizes]; NaN where all sets of a size are alike."""
    import numpy as np

    from evaluation.association import pearson

    groups = [effects.group == group for group in np.unique(effects.group)]
    return np.array([pearson(effects.sums[group], effects.drops[group]) for group in groups])


def infidelity(scores: Tensor, removals: Removals, *, output: str = "logit", normalise: bool = True) -> Tensor:
    """Mean over sets of (scores' sum - what leaving out the set costs)^2, [B].

    normalise: the scores are first multiplied by the factor, not below 0, that makes this least; so it does not depend
    on their scale, and the opposite of a faithful explanation is not one.
    """

    def error(each: Effects) -> float:
        if not len(each.drops):
            return math.nan
        sums, power = each.sums, float((each.sums**2).mean())
        scale = max(0.0, float((sums * each.drops).mean()) / power) if normalise and power > 0 else 1.0
        return float(((scale * sums - each.drops) ** 2).mean())

    return _each(scores, removals, output, error)


def effect_size_spearman(scores: Tensor, removals: Removals, *, output: str = "probability") -> Tensor:
    """Spearman correlation of |score| and of the squared change that leaving out each unit makes, [B]."""
    from evaluation.association import spearman

    return _each(scores, removals, output, lambda each: spearman(abs(each.sums), each.drops**2))


def _metric(id: str, compute: Callable[..., Tensor], sets: str, formula: str, source: str, **rest: Any) -> Metric:
    about = {"higher_is_better": True, "range": SIGNED, "undefined": CONSTANT, **rest}
    return register(
        Metric(
            id, formula, source=source, needs=("scores", "removals"), compute=compute, reads={"removals": sets}, **about
        )
    )


_metric(
    "tau_loo", leave_one_out_kendall, "leave_one_out", "Kendall tau-b over units i of a_i and p(x) - p(x without i)",
    "Jain & Wallace 2019, arXiv 1902.10186", aliases=("taucorr_loo",),
)  # fmt: skip
_metric(
    "faithfulness_estimate", set_correlation, "leave_one_out",
    "Pearson over units i of a_i and f(x) - f(x without i), f the logit",
    "Alvarez-Melis & Jaakkola 2018, arXiv 1806.07538",
)  # fmt: skip
_metric(
    "faithfulness_correlation", set_correlation, "random_subsets",
    "Pearson over 100 random sets S of a fifth of the units of sum_S a and f(x) - f(x without S), f the logit",
    "Bhatt et al. 2020, arXiv 2005.00631",
)  # fmt: skip
_metric(
    "sensitivity_n", correlation_by_size, "subsets_by_size",
    "mean over n = 10, 30, 50, 70, 90 % of the Pearson over 20 random sets S of n units of sum_S a and "
    "f(x) - f(x without S), f the logit",
    "Ancona et al. 2018, arXiv 1711.06104",
)  # fmt: skip
_metric(
    "infidelity", infidelity, "random_subsets",
    "mean over random sets S of (b sum_S a - (f(x) - f(x without S)))^2, f the logit, b >= 0 the best factor",
    "Yeh et al. 2019, arXiv 1901.09392, with sets of units removed", higher_is_better=False, range=(0, math.inf),
    undefined="of texts of fewer than two units",
)  # fmt: skip
_metric(
    "monotonicity_correlation", effect_size_spearman, "leave_one_out",
    "Spearman over units i of |a_i| and (p(x) - p(x without i))^2", "Nguyen & Martinez 2020, arXiv 2007.07584",
)  # fmt: skip
