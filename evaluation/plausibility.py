"""Agreement of explanations with what people marked. Here: the answer of a question.

Importing this needs no torch, like `evaluation.faithfulness`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from attribution.errors import InputError
from evaluation.metric import Metric, register

if TYPE_CHECKING:
    from torch import Tensor


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


def _recall(scores: Tensor, answers: Tensor, **options: object) -> Tensor:
    hits, sizes = answer_recall(scores, answers, **options)  # type: ignore[arg-type]
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
    )
)
