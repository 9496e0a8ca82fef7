"""What a token-to-token method is worth where the right answer is known: alignment with cues, and blank-out.

Importing this needs no torch, like `evaluation.faithfulness`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluation.metric import Metric, register

if TYPE_CHECKING:
    from torch import Tensor


def dot_product(scores: Tensor, cues: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """Share of the absolute scores [B, N] that lies on the cues, bool [B, N]; returns [B].

    All tokens count, special ones and the masked one too. NaN without a cue, without any score, or where one is NaN.
    """
    import torch

    weights = visible_sizes(scores, attention_mask)
    total = weights.sum(1)
    share = (weights * cues).sum(1) / total
    return share.where(has_cue(cues, attention_mask) & (total > 0) & torch.isfinite(total), torch.nan)


def average_precision(scores: Tensor, cues: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """Average precision [B] of the absolute scores [B, N] as a ranking, the cues [B, N] being what should come first.

    Tokens of equal score share the precision of the last of them. NaN as for `dot_product`.
    """
    import torch

    weights, cued = visible_sizes(scores, attention_mask), cues.bool()
    visible = torch.ones_like(cued) if attention_mask is None else attention_mask.bool()
    # [B, N, N]: whether key j stands at or above token i
    above = (weights[:, None, :] >= weights[..., None]) & visible[:, None, :]
    precision = (above & cued[:, None, :]).sum(2).double() / above.sum(2).clamp(min=1)
    mean = (precision * (cued & visible)).sum(1) / (cued & visible).sum(1).clamp(min=1)
    finite = torch.isfinite(weights.sum(1)) & (weights.sum(1) > 0)
    return mean.where(has_cue(cues, attention_mask) & finite, torch.nan)


def chance_dot_product(n_cues: Tensor, n_tokens: Tensor) -> Tensor:
    """What scores that are all equal reach, [B]."""
    return n_cues / n_tokens.double()


def chance_average_precision(n_cues: Tensor, n_tokens: Tensor) -> Tensor:
    """Expected average precision of a random ranking without ties, [B], exactly.

    (H_n + (k - 1)(n - H_n) / (n - 1)) / n for k of n, H_n being the n-th harmonic number; Bestgen 2015, eq. 7.
    """
    import torch

    n, k = n_tokens.double(), n_cues.double()
    harmonic = torch.digamma(n + 1) - torch.digamma(torch.ones_like(n))
    return (harmonic + (k - 1) * (n - harmonic) / (n - 1).clamp(min=1)) / n


def blank_out_agreement(scores: Tensor, importance: Tensor, words: Tensor) -> Tensor:
    """Spearman correlation [B] of the sizes of scores [B, N] and of what blanking each token out changes, [B, N].

    words: bool [B, N], the tokens compared: neither special nor the masked one. Equal values share their mean rank.
    NaN where fewer than two are compared, all are equal, or one is NaN.
    """
    import torch

    chosen = words.bool()
    ranked = [_mean_ranks(values.abs().double(), chosen) for values in (scores, importance)]
    count = chosen.sum(1, keepdim=True)
    centred = [(ranks - ranks.sum(1, keepdim=True) / count.clamp(min=1)) * chosen for ranks in ranked]
    spread = [(each * each).sum(1) for each in centred]
    correlation = (centred[0] * centred[1]).sum(1) / (spread[0] * spread[1]).sqrt()
    finite = ~((scores.isnan() | importance.isnan()) & chosen).any(1)
    return correlation.where(finite & (spread[0] > 0) & (spread[1] > 0), torch.nan)


def visible_sizes(scores: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Absolute scores in double precision, padding 0."""
    sizes = scores.abs().double()
    return sizes if attention_mask is None else sizes.masked_fill(~attention_mask.bool(), 0)


def has_cue(cues: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Which texts have a cue among the tokens attended to, bool [B]."""
    return (cues.bool() if attention_mask is None else cues.bool() & attention_mask.bool()).any(1)


def _mean_ranks(values: Tensor, chosen: Tensor) -> Tensor:
    """Ranks [B, N] among the chosen values, from 1, equal ones sharing their mean; 0 elsewhere."""
    others = chosen[:, None, :]
    below = ((values[:, None, :] < values[..., None]) & others).sum(2)
    equal = ((values[:, None, :] == values[..., None]) & others).sum(2)
    return (below + (equal.double() + 1) / 2) * chosen


DOT_PRODUCT = register(
    Metric(
        "dot_product",
        formula="|scores| of the cues / |scores| of all tokens",
        higher_is_better=True,
        range=(0, 1),
        source="Mohebbi et al. 2023, cue alignment",
        needs=("scores", "cues"),
        category="ground_truth",
        compute=dot_product,
    )
)
AVERAGE_PRECISION = register(
    Metric(
        "average_precision",
        formula="average precision of |scores| as a ranking, cues being what should come first",
        higher_is_better=True,
        range=(0, 1),
        source="Mohebbi et al. 2023, cue alignment",
        needs=("scores", "cues"),
        category="ground_truth",
        compute=average_precision,
    )
)
BLANK_OUT = register(
    Metric(
        "blank_out",
        formula="Spearman correlation of |scores| with |change when the token is blanked out|, over words",
        higher_is_better=True,
        range=(-1, 1),
        source="Abnar & Zuidema 2020; Mohebbi et al. 2023, as reconstructed",
        needs=("scores", "importance", "words"),
        compute=blank_out_agreement,
    )
)
