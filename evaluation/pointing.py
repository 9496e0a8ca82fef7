"""Where the right answer is known: does the explanation point at it? Importing this needs no torch.

All attended tokens are ranked by |score|, special ones too. Equal scores: the cue comes last, so that nothing is won by
scores that are all alike.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from evaluation.context_mixing import has_cue, visible_sizes
from evaluation.metric import Metric, register

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

TOP = 5  # tokens that a reader looks at


def first_cue(scores: Tensor, cues: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """Rank [B] from 1 of the cue with the largest |score|; cues, bool [B, N]. NaN without cues or any finite score."""
    import torch

    places, cued, defined = _ranked(scores, cues, attention_mask)
    first = places.masked_fill(~cued, places.shape[1]).amin(1)
    return (1 + first).double().where(defined, torch.nan)


def pointing(scores: Tensor, cues: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """1 where a cue has the largest |score|, else 0: [B]."""
    import torch

    rank = first_cue(scores, cues, attention_mask)
    return (rank == 1).double().where(~rank.isnan(), torch.nan)


def reciprocal_rank(scores: Tensor, cues: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """1 / rank of the cue with the largest |score|, [B]."""
    return 1 / first_cue(scores, cues, attention_mask)


def recall(scores: Tensor, cues: Tensor, attention_mask: Tensor | None = None, *, k: int = TOP) -> Tensor:
    """Share [B] of the cues that are among the k largest |scores|, of as many as can be."""
    import torch

    places, cued, defined = _ranked(scores, cues, attention_mask)
    found = (places < k) & cued
    return (found.sum(1) / cued.sum(1).clamp(1, k).double()).where(defined, torch.nan)


def _ranked(scores: Tensor, cues: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Places [B, N] from 0, padding last; cues attended to, bool [B, N]; and which texts have both, bool [B]."""
    import torch

    from evaluation.levels import ranks

    sizes = visible_sizes(scores, attention_mask)
    visible = torch.ones_like(sizes, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    total, cued = sizes.sum(1), cues.bool() & visible
    defined = has_cue(cues, attention_mask) & torch.isfinite(total) & (total > 0)
    cues_last = cued.byte().argsort(dim=1, stable=True)
    places = ranks(sizes.gather(1, cues_last), visible.gather(1, cues_last))
    return places.gather(1, cues_last.argsort(dim=1)), cued, defined


def _register(id: str, formula: str, compute: Callable[..., Tensor], source: str) -> None:
    about = {"needs": ("scores", "cues"), "category": "ground_truth", "undefined": "of texts without cues, or scores"}
    register(Metric(id, formula, True, (0, 1), source, compute=compute, **about))  # type: ignore[arg-type]


_register(
    "pointing_accuracy", "1 if the largest |score| is a cue's, else 0", pointing, "Zhang et al. 2018, pointing game"
)
_register(
    "reciprocal_rank", "1 / rank of the first cue by |score|; its mean is the MRR", reciprocal_rank, "Voorhees 1999"
)
_register(
    f"recall_at_{TOP}", f"cues among the {TOP} largest |scores| / as many as can be", partial(recall, k=TOP),
    "recall@k of known causes, as in Bastings et al. 2022, arXiv 2111.07367",
)  # fmt: skip
