"""Perturbation curves: what becomes of a prediction as its most relevant tokens are taken away, or kept alone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from attribution.errors import InputError
from attribution.methods.units import Units
from attribution.model.inputs import Inputs
from attribution.perturb import PassCounts, Perturbation
from attribution.targets import TargetLike
from attribution.words import aggregate
from evaluation.engine import Run, of_target, perturbable_tokens, run_requests
from evaluation.levels import TENTHS, Levels, leave_one, level_counts, ranks
from evaluation.resampling import Resampler, resolved

if TYPE_CHECKING:
    from attribution.explainer import Explainer
    from attribution.model.adapter import ModelAdapter

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class CurveRequest:
    """One curve per row: units are ranked by `scores` [B, N]; ties go to the unit that comes first.

    `levels` are fractions of the perturbable units (floats; ceil(q n), so 0.0 is none) or counts (ints, or a tensor
    [B, K]; at most all). The top units are perturbed, or with `keep` all the others. With `special` special tokens are
    perturbed like any other. `unit`: token, word or sentence, ranked by what `aggregation` makes of its tokens' scores.
    """

    scores: Tensor
    levels: Levels = TENTHS
    operator: str | None = None
    order: str = "most_relevant_first"
    keep: bool = False
    special: bool = False
    unit: str = "token"
    aggregation: str = "sum"

    def plan(self, adapter: ModelAdapter, inputs: Inputs) -> CurvePlan:
        """The copies of each row and level."""
        perturbable = inputs.attention_mask.bool() if self.special else perturbable_tokens(adapter, inputs)
        return CurvePlan.of(adapter, inputs, perturbable, self)


@dataclass(frozen=True)
class Curves:
    """Predictions along K levels for B rows. C = classes, (start, end) at the positions explained, or the next token.

    A row without perturbable tokens, or with NaN among its scores, is NaN throughout.
    """

    counts: Tensor  # [B, K] units perturbed, or kept
    levels: Tensor  # [B, K] the same as a fraction of the perturbable units
    logits: Tensor  # [B, K, C]
    log_probabilities: Tensor  # [B, K, C]
    intact_logits: Tensor  # [B, C]
    intact_log_probabilities: Tensor  # [B, C]
    target: Tensor  # [B] class, the same for all levels; [B, 2] start and end position; [B, 1] token
    operator: str = "mask"
    order: str = "most_relevant_first"
    keep: bool = False
    squared_errors: Tensor | None = None  # [B, K] of the logits, summed over C; None where they were not kept
    entropy_drops: Tensor | None = None  # [B, K] H(p(x)) - H(p(x')), see Run.distribution_changes
    divergences: Tensor | None = None  # [B, K] KL(p(x') || p(x))
    predicted: Tensor | None = (
        None  # [B, K] class or token decided for, [B, K, 2] span; -1 undefined, see Run.decisions
    )
    intact_predicted: Tensor | None = None  # [B], [B, 2]
    passes: PassCounts = field(default_factory=PassCounts)  # of the whole run that this came from

    @property
    def probabilities(self) -> Tensor:
        """[B, K, C]; classes sum to one (independent labels do not), start and end over the attended positions."""
        return self.log_probabilities.exp()

    @property
    def intact_probabilities(self) -> Tensor:
        """[B, C]."""
        return self.intact_log_probabilities.exp()

    def of_target(self, values: Tensor) -> Tensor:
        """The explained class of [..., C] as [..., 1]; start and end of a span and a token as they are."""
        return of_target(values, self.target)


def perturbation_curves(
    explainer: Explainer,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    scores: Tensor,
    *,
    target: TargetLike = None,
    levels: Levels = TENTHS,
    operator: str | None = None,
    order: str = "most_relevant_first",
    keep: bool = False,
    unit: str = "token",
    aggregation: str = "sum",
    token_type_ids: Tensor | None = None,
    position_ids: Tensor | None = None,
    special_tokens_mask: Tensor | None = None,
    word_ids: Tensor | None = None,
    sentence_ids: Tensor | None = None,
    batch_tokens: int | None = None,
    resampler: Resampler | None = None,
) -> Curves:
    """The curves of one explanation `scores` [B, N].

    `target` is fixed from the intact input: None (the predicted class or span), a class, classes [B], for question
    answering start and end positions [B, 2], or a `Target`. `levels`, `order`, `keep`, `unit` and `aggregation` are
    those of a `CurveRequest`; `word_ids` and `sentence_ids` [B, N] say what the units are. `operator` is mask, pad, unk
    (the id is replaced, attention stays on), delete (the text gets shorter), attention_mask_out, zero_embedding,
    mean_embedding, or mlm_resample with a `resampler`; None takes mask where the model has one, else delete. Special
    tokens are never perturbed.
    """
    return perturbation_curves_many(
        explainer,
        input_ids,
        attention_mask,
        {"": scores},
        target=target,
        levels=levels,
        operator=operator,
        order=order,
        keep=keep,
        unit=unit,
        aggregation=aggregation,
        token_type_ids=token_type_ids,
        position_ids=position_ids,
        special_tokens_mask=special_tokens_mask,
        word_ids=word_ids,
        sentence_ids=sentence_ids,
        batch_tokens=batch_tokens,
        resampler=resampler,
    )[""]


def perturbation_curves_many(
    explainer: Explainer,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    scores: Mapping[str, Tensor],
    *,
    target: TargetLike = None,
    levels: Levels = TENTHS,
    operator: str | None = None,
    order: str = "most_relevant_first",
    keep: bool = False,
    unit: str = "token",
    aggregation: str = "sum",
    batch_tokens: int | None = None,
    resampler: Resampler | None = None,
    **rest: Tensor | None,
) -> dict[str, Curves]:
    """The curves of several explanations {label: scores}, as `perturbation_curves`; equal inputs are run once."""
    about = {"levels": levels, "operator": operator, "order": order, "keep": keep}
    requests = {
        label: CurveRequest(each, **about, unit=unit, aggregation=aggregation)  # type: ignore[arg-type]
        for label, each in scores.items()
    }
    inputs = Inputs.of(input_ids, attention_mask, **rest)
    return run_curves(explainer, inputs, requests, target=target, batch_tokens=batch_tokens, resampler=resampler)


def run_curves(
    explainer: Explainer,
    inputs: Inputs,
    requests: Mapping[Key, CurveRequest],
    *,
    target: TargetLike = None,
    batch_tokens: int | None = None,
    resampler: Resampler | None = None,
) -> dict[Key, Curves]:
    """Curves of any mix of explanations, levels and operators in one run that never repeats an input."""
    return run_requests(explainer, inputs, requests, target=target, batch_tokens=batch_tokens, resampler=resampler)


@dataclass(frozen=True)
class CurvePlan:
    """A request with its operator, units [B], counts [B, K], perturbed tokens [B, K, N] and rows with a curve [B]."""

    request: CurveRequest
    operator: str
    n: Tensor
    counts: Tensor
    touched: Tensor
    defined: Tensor

    @classmethod
    def of(cls, adapter: ModelAdapter, inputs: Inputs, perturbable: Tensor, request: CurveRequest) -> CurvePlan:
        """Which tokens each level touches."""
        operator = resolved(adapter, request.operator)
        scores = request.scores.to(perturbable.device)
        if scores.shape != perturbable.shape:
            raise InputError(f"scores: shape {list(scores.shape)}, but the inputs are {list(perturbable.shape)}")
        units = Units.among(inputs, perturbable, request.unit)
        defined = (units.count > 0) & ~(scores.isnan() & perturbable).any(1)
        counts = level_counts(request.levels, units.count)
        if operator == "delete":
            bare = inputs.attention_mask.bool().sum(1) == perturbable.sum(1)
            counts = leave_one(counts, units.count, bare, request.keep)
        place = ranks(unit_scores(scores, units, request.aggregation), units.members, request.order)[:, None, :]
        chosen = ((place < counts[:, :, None]) != request.keep) & (units.members & defined[:, None])[:, None, :]
        return cls(request, operator, units.count, counts, units.tokens(chosen), defined)

    def perturbation(self) -> Perturbation:
        """All levels as perturbed rows [B * K, N]."""
        b, k, _ = self.touched.shape
        rows = torch.arange(b, device=self.touched.device).repeat_interleave(k)
        return Perturbation(rows, self.touched.flatten(0, 1), self.operator)

    def result(self, read: Tensor, run: Run) -> Curves:
        """The curves from what was read of the perturbed rows [B * K, 3, C]."""
        read = read.view(*self.counts.shape, *read.shape[1:]).where(self.defined[:, None, None, None], torch.nan)
        entropy_drops, divergences = run.distribution_changes(read)
        return Curves(
            counts=self.counts,
            levels=self.counts.double() / self.n[:, None],
            logits=read[:, :, 0],
            log_probabilities=read[:, :, 1],
            intact_logits=run.intact[:, 0],
            intact_log_probabilities=run.intact[:, 1],
            target=run.target,
            operator=self.operator,
            order=self.request.order,
            keep=self.request.keep,
            squared_errors=(read[:, :, 0] - run.intact[:, None, 0]).square().sum(-1),
            entropy_drops=entropy_drops,
            divergences=divergences,
            predicted=run.decisions(read[:, :, 2]),
            intact_predicted=run.decisions(run.intact[:, 2]),
            passes=run.passes,
        )


def unit_scores(scores: Tensor, units: Units, aggregation: str) -> Tensor:
    """Scores [B, U] of units from those of their tokens [B, N]; NaN counts as 0."""
    found = aggregate(scores.nan_to_num(), units.ids, aggregation)
    missing = units.members.shape[1] - found.shape[1]
    return torch.nn.functional.pad(found, (0, missing))
