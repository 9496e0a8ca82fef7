"""Agreement of explanations with what people marked: the rationale of a decision, the answer of a question.

Averages are over examples, never over pooled tokens, but for the answers of `answer_recall`.

Importing this needs no torch, like `evaluation.faithfulness`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from attribution.errors import InputError
from evaluation.metric import Metric, register

if TYPE_CHECKING:
    from torch import Tensor

    from evaluation.association import Floats


class AnswerRecall(NamedTuple):
    """Answer tokens found [B] out of answer tokens [B]; NaN where an example has no answer."""

    hits: Tensor
    sizes: Tensor

    @property
    def micro(self) -> float:
        """All hits over all answer tokens."""
        return float(self.hits.nansum() / self.sizes.nansum())


def answer_recall(
    scores: Tensor,
    answers: Tensor,
    *,
    k: int = 20,
    attention_mask: Tensor | None = None,
    special_tokens_mask: Tensor | None = None,
    include_special: bool = False,
) -> AnswerRecall:
    """How many tokens of the gold answer are among the k best scored ones of question and context.

    `answers` [B, 2] are its first and last token (inclusive), negative where there is none. The micro average is what
    Song et al. 2024 call precision@20; they also rank the special tokens: `include_special=True`. Ties go to the token
    that comes first.
    """
    import torch

    from evaluation.levels import ranks

    ranked = torch.ones_like(scores, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    if not include_special:
        if special_tokens_mask is None:
            raise InputError("answer_recall: give special_tokens_mask, or rank all tokens with include_special=True")
        ranked = ranked & ~special_tokens_mask.bool()
    columns = torch.arange(scores.shape[1], device=scores.device)
    answer = (columns >= answers[:, :1]) & (columns <= answers[:, 1:])
    defined = (answers >= 0).all(1) & ~(scores.isnan() & ranked).any(1)
    top = (ranks(scores.nan_to_num(), ranked) < k) & ranked
    sizes, hits = (found.sum(1).double().where(defined, torch.nan) for found in (answer, answer & top))
    return AnswerRecall(hits, sizes)


def _recall(
    scores: Tensor,
    answers: Tensor,
    k: int = 20,
    attention_mask: Tensor | None = None,
    special_tokens_mask: Tensor | None = None,
    include_special: bool = False,
) -> Tensor:
    masks = {"attention_mask": attention_mask, "special_tokens_mask": special_tokens_mask}
    hits, sizes = answer_recall(scores, answers, k=k, include_special=include_special, **masks)
    return hits / sizes


ANSWER_RECALL = register(
    Metric(
        "answer_recall",
        formula="answer tokens among the top 20 / answer tokens; means are micro: weighted by the answer's length",
        higher_is_better=True,
        range=(0, 1),
        source="Song et al. 2024, there called precision@20",
        needs=("scores", "answers"),
        compute=_recall,
        category="plausibility",
        undefined="of examples without an answer",
    )
)


Span = tuple[int, int]
Marked = Any  # numpy bool [n]


def rationale_tokens(offsets: Sequence[Span], spans: Sequence[Span], *, share: float = 0.5) -> list[bool]:
    """Which tokens a person marked: those with at least this share of their characters inside of the spans.

    offsets: characters (start, end) of each token, spans: of what was marked; they may overlap.
    """
    marked: set[int] = set()
    for start, end in spans:
        marked.update(range(start, end))
    inside = [sum(character in marked for character in range(start, end)) for start, end in offsets]
    return [n > 0 and n >= share * (end - start) for n, (start, end) in zip(inside, offsets, strict=True)]


def rationale_length(rationales: Sequence[Sequence[bool]]) -> int:
    """How many tokens the rationales of a data set have on average, texts without one left out; at least 1."""
    sizes = [size for rationale in rationales if (size := sum(rationale))]
    if not sizes:
        raise InputError("rationale: no example of the data set has one")
    return max(1, round(sum(sizes) / len(sizes)))


def average_precision(scores: Tensor, rationale: Tensor, tokens: Tensor) -> Tensor:
    """Area under precision and recall of the tokens ranked by score, not interpolated; equal scores as one: [B]."""
    import numpy as np

    def area(own: Floats, marked: Marked) -> float:
        if marked.all() or not marked.any():
            return math.nan
        order = np.argsort(-own, kind="stable")
        hits, ends = np.cumsum(marked[order]), np.append(np.diff(own[order]) != 0, True)
        recall, precision = hits[ends] / hits[-1], (hits / np.arange(1, len(own) + 1))[ends]
        return float((np.diff(recall, prepend=0.0) * precision).sum())

    return _each(scores, rationale, tokens, area)


def top_f1(scores: Tensor, rationale: Tensor, tokens: Tensor, rationale_length: int) -> Tensor:
    """F1 of the best `rationale_length` tokens against the rationale, [B]."""
    return _each(scores, rationale, tokens, lambda own, marked: _f1_of(_top(own, rationale_length), marked))


def top_jaccard(scores: Tensor, rationale: Tensor, tokens: Tensor, rationale_length: int) -> Tensor:
    """Tokens in both over tokens in either, of the best `rationale_length` and the rationale: [B]."""

    def jaccard(own: Floats, marked: Marked) -> float:
        top = _top(own, rationale_length)
        return float((top & marked).sum() / (top | marked).sum())

    return _each(scores, rationale, tokens, jaccard)


def r_precision(scores: Tensor, rationale: Tensor, tokens: Tensor) -> Tensor:
    """Share of the rationale among as many of the best tokens as it has, [B]."""

    def precision(own: Floats, marked: Marked) -> float:
        return float((_top(own, int(marked.sum())) & marked).sum() / marked.sum())

    return _each(scores, rationale, tokens, precision)


def span_f1(scores: Tensor, rationale: Tensor, tokens: Tensor, rationale_length: int, *, iou: float = 0.5) -> Tensor:
    """F1 of runs of the best tokens against runs of the rationale, [B]; two match that share `iou` of their union."""

    def f1(own: Floats, marked: Marked) -> float:
        found, wanted = _runs(_top(own, rationale_length)), _runs(marked)
        matches = [[_iou(a, b) >= iou for b in wanted] for a in found]
        hits, recalled = sum(map(any, matches)), sum(map(any, zip(*matches, strict=True)))
        return _harmonic(hits / len(found), recalled / len(wanted))

    return _each(scores, rationale, tokens, f1)


def _each(scores: Tensor, rationale: Tensor, tokens: Tensor, value: Callable[[Floats, Marked], float]) -> Tensor:
    """A value of each example from its own tokens' scores and marks; NaN without a rationale or with NaN scores."""
    import numpy as np
    import torch

    columns = (each.cpu().numpy() for each in (scores.double(), rationale.bool(), tokens.bool()))
    found = []
    for row, marks, ranked in zip(*columns, strict=True):
        own, marked = row[ranked], marks[ranked]
        found.append(value(own, marked) if marked.any() and not np.isnan(own).any() else math.nan)
    return torch.tensor(found, dtype=torch.float64)


def _top(scores: Floats, k: int) -> Marked:
    """The k best, the earlier of equal ones first: bool [n]."""
    import numpy as np

    top = np.zeros(len(scores), dtype=bool)
    top[np.argsort(-scores, kind="stable")[:k]] = True
    return top


def _f1_of(top: Marked, marked: Marked) -> float:
    hits = (top & marked).sum()
    return _harmonic(float(hits / top.sum()), float(hits / marked.sum()))


def _harmonic(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _runs(marked: Marked) -> list[Span]:
    """First and one past the last index of each run."""
    import numpy as np

    edges = np.flatnonzero(np.diff(np.concatenate(([False], marked, [False])).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _iou(a: Span, b: Span) -> float:
    common = max(0, min(a[1], b[1]) - max(a[0], b[0]))
    return common / (a[1] - a[0] + b[1] - b[0] - common)


def _plausibility(
    id: str, compute: Callable[..., Tensor], formula: str, needs: Sequence[str] = (), **rest: Any
) -> None:
    about = {"source": "DeYoung et al. 2020 (ERASER)", "undefined": "of texts without a rationale", **rest}
    arguments = ("scores", "rationale", "tokens", *needs)
    register(Metric(id, formula, True, (0, 1), needs=arguments, compute=compute, category="plausibility", **about))


K = ("rationale_length",)  # the data set's mean
_plausibility(
    "auprc", average_precision, "average precision of the tokens ranked by score, against the rationale",
    undefined="of texts without a rationale, or with nothing else", aliases=("auprc_plau",),
)  # fmt: skip
_plausibility(
    "token_f1", top_f1, "F1 of the top k tokens against the rationale, k the data set's mean rationale length", K,
    aliases=("token_f1_plau",),
)  # fmt: skip
_plausibility(
    "token_iou", top_jaccard, "|top k and rationale| / |top k or rationale|, k the data set's mean rationale length", K,
    source="Attanasio et al. 2023 (ferret)", aliases=("token_iou_plau",),
)  # fmt: skip
_plausibility(
    "iou_f1", span_f1,
    "F1 of runs of the top k tokens against runs of the rationale that overlap by half of their union", K,
    source="DeYoung et al. 2020 (ERASER); recall counts rationale runs",
)  # fmt: skip
_plausibility("r_precision", r_precision, "share of the rationale among as many top tokens as it has")
