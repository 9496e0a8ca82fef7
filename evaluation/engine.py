"""One run for everything: whoever needs perturbed copies hands in what, equal ones are run once, results go back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

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
    run_perturbed,
)
from attribution.targets import TOKEN_TASKS, Target, TargetLike, as_target, parts, token_columns
from evaluation.resampling import RESAMPLE, Resampler, checked

if TYPE_CHECKING:
    from attribution.explainer import Explainer
    from attribution.model.adapter import ModelAdapter

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Run:
    """What all results of one run share.

    intact: [B, 3, C] logits, log-probabilities and decision of the unperturbed rows. target: [B] class, [B, 2] start
    and end, [B, 1] token. multi_label: labels do not exclude each other. offset: [B] columns of padding on the left.
    """

    intact: Tensor
    target: Tensor
    multi_label: bool
    offset: Tensor
    passes: PassCounts

    def of_target(self, values: Tensor) -> Tensor:
        """The explained class of [B, ..., C] as [B, ..., 1]; start and end of a span and a token as they are."""
        return of_target(values, self.target)

    def distribution_changes(self, read: Tensor) -> tuple[Tensor, Tensor]:
        """H(p(x)) - H(p(x')) and KL(p(x') || p(x)) [B, K], in nats, of what was read of copies x', [B, K, 3, C].

        Of independent labels the sums over labels. NaN for answers and tokens, of which no whole distribution is read.
        """
        if self.target.dim() == 2:
            missing = read.new_full(read.shape[:2], torch.nan)
            return missing, missing
        before, after = self._outcomes(self.intact[:, None]), self._outcomes(read)
        negative_entropy = torch.special.xlogy(after.exp(), after.exp()).sum(-1)
        entropy = torch.special.entr(before.exp()).sum(-1)
        return entropy + negative_entropy, negative_entropy - (after.exp() * before).sum(-1)

    def _outcomes(self, read: Tensor) -> Tensor:
        """Log-probabilities of all outcomes: classes as they are, each independent label and its absence."""
        if self.multi_label:
            return torch.cat((read[..., 1, :], torch.nn.functional.logsigmoid(-read[..., 0, :])), -1)
        return read[..., 1, :]

    def decisions(self, read: Tensor) -> Tensor:
        """What the model decides, of `read` [B, ..., C]: class or token [B, ...]; start and end [B, ..., 2].

        Of independent labels the explained one where it is predicted, else -2. NaN becomes -1.
        """
        if self.target.dim() == 2 and self.target.shape[1] == 2:
            found = read + self.offset.view(-1, *[1] * (read.dim() - 1))
        elif self.multi_label:
            on = self.of_target(read)[..., 0]
            target = self.target.view(-1, *[1] * (on.dim() - 1)).to(on.dtype)
            found = torch.where(on.isnan(), on, torch.where(on > 0, target, -2.0))
        else:
            found = read[..., 0]
        return found.nan_to_num(-1).long()


def of_target(values: Tensor, target: Tensor) -> Tensor:
    """The class `target` [B] of [B, ..., C] as [B, ..., 1]; a target [B, T] leaves them as they are."""
    if target.dim() == 2:
        return values
    index = target.reshape(-1, *[1] * (values.dim() - 1)).expand(*values.shape[:-1], 1)
    return values.gather(-1, index)


class Plan(Protocol):
    """A request that has been worked out for a batch."""

    def perturbation(self) -> Perturbation:
        """The copies [R, N] it needs."""

    def result(self, read: Tensor, run: Run) -> Any:
        """What it makes of the copies' logits, log-probabilities and decisions [R, 3, C]."""


class Request(Protocol):
    """Whatever needs perturbed copies."""

    def plan(self, adapter: ModelAdapter, inputs: Inputs) -> Plan:
        """Work it out."""


def run_requests(
    explainer: Explainer,
    inputs: Inputs,
    requests: Mapping[Key, Request],
    *,
    target: TargetLike = None,
    batch_tokens: int | None = None,
    resampler: Resampler | None = None,
) -> dict[Key, Any]:
    """The result of each request, from one run that never repeats an input.

    resampler: for the operator `mlm_resample`.
    """
    adapter = explainer.adapter
    options: dict[str, Any] = {"batch_tokens": batch_tokens, "memory": explainer.memory}
    plans = {key: request.plan(adapter, inputs) for key, request in requests.items()}
    copies = [plan.perturbation() for plan in plans.values()]
    drawn = [each.operator == RESAMPLE for each in copies]
    draws = checked(resampler, adapter.model) if any(drawn) else None
    asked = [intact_copies(adapter, inputs), *(_resampled(draws, inputs, each) for each in copies)]
    reading = READINGS[adapter.task](adapter, inputs, target, options)
    (intact, *results), passes = run_perturbed(adapter, inputs, asked, reading.read, marks=reading.marks, **options)
    fixed = _classes(inputs, target, intact[:, 0]) if reading.target is None else reading.target
    run = Run(intact, fixed, adapter.multi_label, _left_padding(inputs), passes)
    found = [draws.averaged(each) if draws and many else each for each, many in zip(results, drawn, strict=True)]
    return {key: plan.result(each, run) for (key, plan), each in zip(plans.items(), found, strict=True)}


def _resampled(resampler: Resampler | None, inputs: Inputs, copies: Perturbation) -> Perturbation:
    return resampler.copies(inputs, copies) if resampler and copies.operator == RESAMPLE else copies


def perturbable_tokens(adapter: ModelAdapter, inputs: Inputs) -> Tensor:
    """Attended tokens that are not special, bool [B, N]."""
    given = inputs.special_tokens_mask
    special = adapter.special_tokens(inputs).to(inputs.input_ids.device) if given is None else given.bool()
    return inputs.attention_mask.bool() & ~special


def intact_copies(adapter: ModelAdapter, inputs: Inputs) -> Perturbation:
    """The rows as they are."""
    rows = torch.arange(len(inputs.input_ids), device=inputs.input_ids.device)
    untouched = torch.zeros_like(inputs.input_ids, dtype=torch.bool)
    return Perturbation(rows, untouched, "none", tokens=inputs.input_ids)


@dataclass(frozen=True)
class _Reading:
    """What is read of each copy; `target` is None where the intact logits decide."""

    read: Read
    marks: Marks = field(default_factory=Marks)
    target: Tensor | None = None


def _read_classes(adapter: ModelAdapter, inputs: Inputs, target: TargetLike, options: dict[str, Any]) -> _Reading:
    return _Reading(read_labels if adapter.multi_label else read_classes)


def _read_span(adapter: ModelAdapter, inputs: Inputs, target: TargetLike, options: dict[str, Any]) -> _Reading:
    """At the start and end positions [B, 2] given, or predicted."""
    position = _asked_span(target)
    if position is None:
        position = _predicted_span(adapter, inputs, options)
    if position.shape != (inputs.shape[0], 2):
        raise InputError(f"target: start and end positions are a tensor [B, 2], not {list(position.shape)}")
    position = position.long().to(inputs.input_ids.device)
    return _Reading(read_span, Marks(positions=position), position)


def _read_token(adapter: ModelAdapter, inputs: Inputs, target: TargetLike, options: dict[str, Any]) -> _Reading:
    """At the explained token alone, [B, 1]; a vocabulary of numbers per copy would be too much to keep."""
    goal, visible = as_target(target, adapter.task), inputs.attention_mask.bool()
    reads = token_columns([goal], visible, adapter.read_out(inputs), adapter.task)
    if goal.index is None:
        marks = Marks(reads=reads)
        (best,), _ = run_perturbed(
            adapter, inputs, [intact_copies(adapter, inputs)], read_best_tokens, marks=marks, **options
        )
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


def _predicted_span(adapter: ModelAdapter, inputs: Inputs, options: dict[str, Any]) -> Tensor:
    (best,), _ = run_perturbed(adapter, inputs, [intact_copies(adapter, inputs)], read_best_span, **options)
    return best + _left_padding(inputs)[:, None]


def _left_padding(inputs: Inputs) -> Tensor:
    """[B] columns before the first token, which copies do not have."""
    return (inputs.attention_mask.cumsum(1) == 0).sum(1)


def _classes(inputs: Inputs, target: TargetLike, logits: Tensor) -> Tensor:
    """The explained class of each row [B]."""
    visible = inputs.attention_mask.bool()
    return parts(target, logits, visible, torch.zeros(len(logits), dtype=torch.long))[0].index
