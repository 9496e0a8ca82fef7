"""Perturbation curves: what becomes of a prediction as its most relevant tokens are taken away, or kept alone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from attribution.errors import InputError
from attribution.model.inputs import Inputs
from attribution.perturb import (
    Marks,
    PassCounts,
    Perturbation,
    Read,
    read_best_span,
    read_best_tokens,
    read_classes,
    read_labels,
    read_next_tokens,
    read_span,
    resolve_operator,
    run_perturbed,
)
from attribution.targets import TOKEN_TASKS, Target, TargetLike, as_target, parts, token_columns
from evaluation.levels import TENTHS, Levels, leave_one, level_counts, ranks

if TYPE_CHECKING:
    from attribution.explainer import Explainer
    from attribution.model.adapter import ModelAdapter

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class CurveRequest:
    """One curve per row: tokens are ranked by `scores` [B, N]; ties go to the token that comes first.

    `levels` are fractions of the perturbable tokens (floats; ceil(q n), so 0.0 is none) or counts (ints, or a
    tensor [B, K]; at most all). The top tokens are perturbed, or with `keep` all the others. With `special` special
    tokens are perturbed like any other.
    """

    scores: Tensor
    levels: Levels = TENTHS
    operator: str | None = None
    order: str = "most_relevant_first"
    keep: bool = False
    special: bool = False


@dataclass(frozen=True)
class Curves:
    """Predictions along K levels for B rows. C = classes, (start, end) at the positions explained, or the next token.

    A row without perturbable tokens, or with NaN among its scores, is NaN throughout.
    """

    counts: Tensor  # [B, K] tokens perturbed, or kept
    levels: Tensor  # [B, K] the same as a fraction of the perturbable tokens
    logits: Tensor  # [B, K, C]
    log_probabilities: Tensor  # [B, K, C]
    intact_logits: Tensor  # [B, C]
    intact_log_probabilities: Tensor  # [B, C]
    target: Tensor  # [B] class, the same for all levels; [B, 2] start and end position; [B, 1] token
    operator: str = "mask"
    order: str = "most_relevant_first"
    keep: bool = False
    squared_errors: Tensor | None = None  # [B, K] of the logits, summed over C; None where they were not kept
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
        if self.target.dim() == 2:
            return values
        index = self.target.reshape(-1, *[1] * (values.dim() - 1)).expand(*values.shape[:-1], 1)
        return values.gather(-1, index)


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
    token_type_ids: Tensor | None = None,
    position_ids: Tensor | None = None,
    special_tokens_mask: Tensor | None = None,
    batch_tokens: int | None = None,
) -> Curves:
    """The curves of one explanation `scores` [B, N].

    `target` is fixed from the intact input: None (the predicted class or span), a class, classes [B], for question
    answering start and end positions [B, 2], or a `Target`. `levels`, `order` and `keep` are those of a `CurveRequest`.
    `operator` is mask, pad, unk (the id is replaced, attention stays on) or delete (the text gets shorter); None takes
    mask where the model has one, else delete. Special tokens are never perturbed.
    """
    rest = {"token_type_ids": token_type_ids, "position_ids": position_ids, "special_tokens_mask": special_tokens_mask}
    inputs = Inputs.of(input_ids, attention_mask, **rest)
    request = CurveRequest(scores, levels, operator, order, keep)
    return run_curves(explainer, inputs, {"": request}, target=target, batch_tokens=batch_tokens)[""]


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
    token_type_ids: Tensor | None = None,
    position_ids: Tensor | None = None,
    special_tokens_mask: Tensor | None = None,
    batch_tokens: int | None = None,
) -> dict[str, Curves]:
    """The curves of several explanations {label: scores}, as `perturbation_curves`; equal inputs are run once."""
    rest = {"token_type_ids": token_type_ids, "position_ids": position_ids, "special_tokens_mask": special_tokens_mask}
    requests = {label: CurveRequest(each, levels, operator, order, keep) for label, each in scores.items()}
    inputs = Inputs.of(input_ids, attention_mask, **rest)
    return run_curves(explainer, inputs, requests, target=target, batch_tokens=batch_tokens)


def run_curves(
    explainer: Explainer,
    inputs: Inputs,
    requests: Mapping[Key, CurveRequest],
    *,
    target: TargetLike = None,
    batch_tokens: int | None = None,
) -> dict[Key, Curves]:
    """Curves of any mix of explanations, levels and operators in one run that never repeats an input."""
    adapter = explainer.adapter
    among = {False: perturbable_tokens(adapter, inputs), True: inputs.attention_mask.bool()}  # by request.special
    plans = {key: _Plan.of(adapter, inputs, among[request.special], request) for key, request in requests.items()}
    asked = [_intact(adapter, inputs), *(plan.perturbation() for plan in plans.values())]
    reading = READINGS[adapter.task](adapter, inputs, target, batch_tokens)
    (intact, *results), passes = run_perturbed(
        adapter, inputs, asked, reading.read, marks=reading.marks, batch_tokens=batch_tokens
    )
    fixed = _classes(inputs, target, intact[:, 0]) if reading.target is None else reading.target
    return {
        key: plan.curves(result, intact, fixed, passes)
        for (key, plan), result in zip(plans.items(), results, strict=True)
    }


def perturbable_tokens(adapter: ModelAdapter, inputs: Inputs) -> Tensor:
    """Attended tokens that are not special, bool [B, N]."""
    given = inputs.special_tokens_mask
    special = adapter.special_tokens(inputs).to(inputs.input_ids.device) if given is None else given.bool()
    return inputs.attention_mask.bool() & ~special


@dataclass(frozen=True)
class _Plan:
    """A request with its operator, counts [B, K], perturbed tokens [B, K, N] and rows that have a curve [B]."""

    request: CurveRequest
    operator: str
    n: Tensor
    counts: Tensor
    touched: Tensor
    defined: Tensor

    @classmethod
    def of(cls, adapter: ModelAdapter, inputs: Inputs, perturbable: Tensor, request: CurveRequest) -> _Plan:
        operator = resolve_operator(adapter, request.operator)
        scores = request.scores.to(perturbable.device)
        if scores.shape != perturbable.shape:
            raise InputError(f"scores: shape {list(scores.shape)}, but the inputs are {list(perturbable.shape)}")
        n = perturbable.sum(1)
        defined = (n > 0) & ~(scores.isnan() & perturbable).any(1)
        counts = level_counts(request.levels, n)
        if operator == "delete":
            counts = leave_one(counts, n, inputs.attention_mask.bool().sum(1), request.keep)
        place = ranks(scores.nan_to_num(), perturbable, request.order)[:, None, :]
        top = place < counts[:, :, None]
        touched = (top != request.keep) & (perturbable & defined[:, None])[:, None, :]
        return cls(request, operator, n, counts, touched, defined)

    def perturbation(self) -> Perturbation:
        """All levels as perturbed rows [B * K, N]."""
        b, k, _ = self.touched.shape
        rows = torch.arange(b, device=self.touched.device).repeat_interleave(k)
        return Perturbation(rows, self.touched.flatten(0, 1), self.operator)

    def curves(self, result: Tensor, intact: Tensor, target: Tensor, passes: PassCounts) -> Curves:
        """The curves from what was read of the perturbed rows [B * K, 2, C] and of the intact ones [B, 2, C]."""
        read = result.view(*self.counts.shape, *result.shape[1:]).where(self.defined[:, None, None, None], torch.nan)
        errors = (read[:, :, 0] - intact[:, None, 0]).square().sum(-1)
        return Curves(
            counts=self.counts,
            levels=self.counts / self.n[:, None],
            logits=read[:, :, 0],
            log_probabilities=read[:, :, 1],
            intact_logits=intact[:, 0],
            intact_log_probabilities=intact[:, 1],
            target=target,
            operator=self.operator,
            order=self.request.order,
            keep=self.request.keep,
            squared_errors=errors,
            passes=passes,
        )


def _intact(adapter: ModelAdapter, inputs: Inputs) -> Perturbation:
    rows = torch.arange(len(inputs.input_ids), device=inputs.input_ids.device)
    untouched = torch.zeros_like(inputs.input_ids, dtype=torch.bool)
    return Perturbation(rows, untouched, resolve_operator(adapter, None))


@dataclass(frozen=True)
class _Reading:
    """What is read of each copy; `target` is None where the intact logits decide."""

    read: Read
    marks: Marks = field(default_factory=Marks)
    target: Tensor | None = None


def _read_classes(adapter: ModelAdapter, inputs: Inputs, target: TargetLike, batch_tokens: int | None) -> _Reading:
    return _Reading(read_labels if adapter.multi_label else read_classes)


def _read_span(adapter: ModelAdapter, inputs: Inputs, target: TargetLike, batch_tokens: int | None) -> _Reading:
    """At the start and end positions [B, 2] given, or predicted."""
    position = _asked_span(target)
    if position is None:
        position = _predicted_span(adapter, inputs, batch_tokens)
    if position.shape != (inputs.shape[0], 2):
        raise InputError(f"target: start and end positions are a tensor [B, 2], not {list(position.shape)}")
    position = position.long().to(inputs.input_ids.device)
    return _Reading(read_span, Marks(positions=position), position)


def _read_token(adapter: ModelAdapter, inputs: Inputs, target: TargetLike, batch_tokens: int | None) -> _Reading:
    """At the explained token alone, [B, 1]; a vocabulary of numbers per copy would be too much to keep."""
    goal, visible = as_target(target, adapter.task), inputs.attention_mask.bool()
    reads = token_columns([goal], visible, adapter.read_out(inputs), adapter.task)
    if goal.index is None:
        (best,), _ = run_perturbed(
            adapter, inputs, [_intact(adapter, inputs)], read_best_tokens, marks=Marks(reads=reads),
            batch_tokens=batch_tokens,
        )  # fmt: skip
        token = best[:, int(goal.kind == "runner_up")]
    else:
        token = torch.as_tensor(goal.index, device=reads.device).expand(len(reads))
    return _Reading(read_next_tokens, Marks(labels=token[:, None], reads=reads), token[:, None])


READINGS = {
    "classification": _read_classes,
    "question_answering": _read_span,
    **dict.fromkeys(TOKEN_TASKS, _read_token),
}


def _asked_span(target: TargetLike) -> Tensor | None:
    """The positions given with a target; None for the predicted ones."""
    position = target.position if isinstance(target, Target) and target.kind == "span" else target
    if position is None or (isinstance(position, str) and position == "span"):
        return None
    if not isinstance(position, Tensor):
        raise InputError(f"target={target}: curves of question answering need start and end positions [B, 2], or None")
    return position


def _predicted_span(adapter: ModelAdapter, inputs: Inputs, batch_tokens: int | None) -> Tensor:
    (best,), _ = run_perturbed(adapter, inputs, [_intact(adapter, inputs)], read_best_span, batch_tokens=batch_tokens)
    return best + (inputs.attention_mask.cumsum(1) == 0).sum(1, keepdim=True)  # the engine strips left padding


def _classes(inputs: Inputs, target: TargetLike, logits: Tensor) -> Tensor:
    """The explained class of each row [B]."""
    visible = inputs.attention_mask.bool()
    return parts(target, logits, visible, torch.zeros(len(logits), dtype=torch.long))[0].index
