"""Stability: how much more an explanation changes than the input, the output or what is in between.

The relative ones are those of Agarwal et al. 2022, arXiv 2203.06877: the largest ratio over neighbours for which the
model decides as for the text itself. Changes are norms of element-wise relative changes; of the logits, norms of the
difference. Two things are done otherwise than in Quantus: what is divided by counts as at least 1 % of the largest
element (`FLOOR`), since scores and activations near 0 would decide alone; and a neighbour that is classified otherwise
is left out, where one of them makes the value NaN there. `local_lipschitz` has the differences themselves, over all
neighbours. `evaluation.neighbourhood` makes them. Importing this needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from evaluation.metric import Metric, register

if TYPE_CHECKING:
    from torch import Tensor

    from evaluation.association import Floats
    from evaluation.statistics.moments import Bools

FLOOR = 0.01  # of the largest absolute value: what smaller ones count as where they are divided by
SMALLEST = 1e-6  # change of an input, an output or a representation: the eps_min of the paper's equations


def relative_change(before: Tensor, after: Tensor) -> Tensor:
    """Norm of (after - before) / before, elements of `before` [..., M] at least FLOOR of the largest: [...]."""
    size = before.abs()
    floor = FLOOR * size.amax(-1, keepdim=True)
    change: Tensor = ((after - before) / size.maximum(floor)).norm(dim=-1)
    return change


def _largest_ratio(scores: Tensor, neighbours: Tensor, change: Tensor, same_class: Tensor, tokens: Tensor) -> Tensor:
    import numpy as np
    import torch

    columns = [scores.double(), neighbours.double(), change.double(), same_class.bool(), tokens.bool()]
    found = [_of_example(*each) for each in zip(*(column.cpu().numpy() for column in columns), strict=True)]
    return torch.from_numpy(np.array(found, dtype=np.float64))


def _of_example(own: Floats, others: Floats, change: Floats, same: Bools, ranked: Bools) -> float:
    """Of scores [N], those of neighbours [n, N] and what changed with them [n]; NaN of nothing, and for any NaN."""
    import numpy as np
    import torch

    before, after = own[ranked], others[:, ranked]
    if not same.any() or not before.any() or not np.isfinite(before).all() or not np.isfinite(after).all():
        return math.nan
    moved = relative_change(torch.from_numpy(before), torch.from_numpy(after[same])).numpy()
    return float((moved / np.maximum(change[same], SMALLEST)).max())


def input_stability(
    scores: Tensor, neighbours: Tensor, input_change: Tensor, same_class: Tensor, tokens: Tensor
) -> Tensor:
    """Max over neighbours of the relative change of a, by that of the word embeddings: [B]."""
    return _largest_ratio(scores, neighbours, input_change, same_class, tokens)


def output_stability(
    scores: Tensor, neighbours: Tensor, output_change: Tensor, same_class: Tensor, tokens: Tensor
) -> Tensor:
    """Max over neighbours of the relative change of a, by the change of the logits: [B]."""
    return _largest_ratio(scores, neighbours, output_change, same_class, tokens)


def representation_stability(
    scores: Tensor, neighbours: Tensor, representation_change: Tensor, same_class: Tensor, tokens: Tensor
) -> Tensor:
    """Max over neighbours of the relative change of a, by that of the last layer's hidden states: [B]."""
    return _largest_ratio(scores, neighbours, representation_change, same_class, tokens)


def local_lipschitz(scores: Tensor, neighbours: Tensor, input_distance: Tensor, tokens: Tensor) -> Tensor:
    """Max over neighbours of |a(x') - a(x)| / |x' - x|, Euclidean: [B]. It grows with the scale of the scores."""
    import torch

    ranked = tokens.bool()
    moved = (neighbours.double() - scores.double()[:, None]).where(ranked[:, None], 0).norm(dim=-1)
    ratio = (moved / input_distance.double()).amax(1)
    found: Tensor = ratio.where(ranked.any(1) & (input_distance > 0).all(1), torch.nan)
    return found


AGARWAL = "Agarwal et al. 2022, arXiv 2203.06877, with a floor of 1 % of the largest element"
TASKS = ("classification", "question_answering")
UNDEFINED = "of texts without tokens; where all scores are 0, or no neighbour is classified as the text is"


def _metric(id: str, compute: Callable[..., Tensor], change: str, denominator: str) -> None:
    """Register one of the three."""
    formula = f"max over neighbours x' of one class of |(a(x') - a(x)) / a(x)| / {denominator}"
    needs = ("scores", "neighbours", change, "same_class", "tokens")
    about = {"source": AGARWAL, "undefined": UNDEFINED, "category": "robustness", "tasks": TASKS}
    register(Metric(id, formula, False, (0, math.inf), needs=needs, compute=compute, **about))  # type: ignore[arg-type]


_metric("relative_input_stability", input_stability, "input_change", "|(x' - x) / x|, x the word embeddings")
_metric("relative_output_stability", output_stability, "output_change", "|f(x') - f(x)|, f the logits")
_metric(
    "relative_representation_stability", representation_stability, "representation_change",
    "|(h(x') - h(x)) / h(x)|, h the last hidden states",
)  # fmt: skip
register(
    Metric(
        "local_lipschitz",
        "max over neighbours x' of |a(x') - a(x)| / |x' - x|, x the word embeddings",
        False,
        (0, math.inf),
        "Alvarez-Melis & Jaakkola 2018, arXiv 1806.07538, eq. 5, over drawn neighbours",
        ("scores", "neighbours", "input_distance", "tokens"),
        local_lipschitz,
        category="robustness",
        undefined="of texts without tokens",
        tasks=TASKS,
    )
)
