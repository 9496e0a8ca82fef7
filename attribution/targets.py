"""What is explained: a class, a pair of classes, an answer's start or end."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attribution.errors import InputError

QA_KINDS = ("start", "end", "span")
CLASS_KINDS = ("class", "predicted", "gold", "runner_up")
OUTPUTS = ("logit", "probability")


@dataclass(frozen=True)
class Target:
    """What a method explains.

    kind: `class` (with `index`), `predicted`, `runner_up`; for question answering `start`, `end` or `span` (start plus
        end, as separate seeds), at `position` or where the model predicts them. `gold` needs `index`, the gold labels.
    index: class, int or [B].
    position: explained token, int or [B]; for `span` [B, 2].
    contrast: class (or position) whose logit is subtracted, int or [B].
    """

    kind: str = "class"
    index: int | Tensor | None = None
    position: int | Tensor | None = None
    contrast: int | Tensor | None = None


TargetLike = Target | str | int | Tensor | None


@dataclass(frozen=True)
class Part:
    """One seed: what a backward starts from, and the position whose row is read.

    gradient, relevance: like the logits; `position` and `index`: [B]. chosen: [B, 1], or [B, 2] with what is
    subtracted: classes, or positions of one `end` of an answer.
    """

    gradient: Tensor
    relevance: Tensor
    position: Tensor
    index: Tensor
    chosen: Tensor
    output: str = "logit"
    end: int | None = None

    def value(self, logits: Tensor, attended: Tensor, chosen: Tensor) -> Tensor:
        """[R] what is explained of logits [R, C] or [R, N, 2] where `chosen` [R, 1 or 2] is; float32 or wider.

        attended: bool [R, N].
        """
        candidates = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.end is not None:
            candidates = candidates[..., self.end].masked_fill(~attended, -torch.inf)
        picked = (candidates if self.output == "logit" else candidates.softmax(1)).gather(1, chosen)
        return picked[:, 0] - picked[:, 1] if chosen.shape[1] > 1 else picked[:, 0]


def parts(target: TargetLike, logits: Tensor, visible: Tensor, read_out: Tensor, output: str = "logit") -> list[Part]:
    """The seeds of a target: one, or two for a span; their scores add up.

    logits: [B, C] or [B, N, 2]; visible: [B, N] attended positions; read_out: [B] position that feeds a classifier.
    """
    if output not in OUTPUTS:
        raise InputError(f"output={output} is unknown; choices: {', '.join(OUTPUTS)}")
    goal = _normalised(target, qa=logits.ndim == 3)
    if logits.ndim == 2:
        return [_part(logits, _class_of(goal, logits), goal.contrast, read_out, output)]
    ends = logits.masked_fill(~visible[..., None], -torch.inf)
    if goal.kind == "span":
        positions = span_positions(goal.position, ends)
        return [_end_part(logits, ends, end, positions[:, end], goal.contrast, output) for end in (0, 1)]
    end = QA_KINDS.index(goal.kind)
    chosen = ends[..., end].argmax(1) if goal.position is None else _per_row(goal.position, len(logits), logits.device)
    return [_end_part(logits, ends, end, chosen, goal.contrast, output)]


def span_positions(given: int | Tensor | None, ends: Tensor) -> Tensor:
    """[B, 2] explained start and end: as given, or where the model predicts them."""
    if given is None:
        return ends.argmax(1)
    if not isinstance(given, Tensor) or given.shape != (len(ends), 2):
        raise InputError("target: a span needs positions as a tensor [B, 2]")
    return given.to(ends.device)


def _normalised(target: TargetLike, *, qa: bool) -> Target:
    if isinstance(target, Target):
        goal = target
    elif isinstance(target, str):
        goal = Target(target)
    elif qa:
        goal = Target("span", position=target)
    else:
        goal = Target("predicted") if target is None else Target("class", index=target)
    allowed = QA_KINDS if qa else CLASS_KINDS
    if goal.kind not in allowed:
        task = "question answering" if qa else "classification"
        raise InputError(f"target={goal.kind} does not fit {task}; choices: {', '.join(allowed)}")
    return goal


def _class_of(goal: Target, logits: Tensor) -> Tensor:
    if goal.kind in ("predicted", "runner_up"):
        rank = int(goal.kind == "runner_up")
        if logits.shape[1] <= rank:
            raise InputError("target=runner_up needs a model of at least two classes")
        return logits.topk(rank + 1, dim=1).indices[:, rank]
    if goal.index is None:
        raise InputError(f"target={goal.kind} needs the classes: Target({goal.kind!r}, index=...)")
    index = _per_row(goal.index, len(logits), logits.device)
    if bool(((index < 0) | (index >= logits.shape[1])).any()):
        raise InputError(f"target={goal.index} is outside the model's {logits.shape[1]} classes")
    return index


def _per_row(value: int | Tensor, n: int, device: torch.device) -> Tensor:
    row = torch.as_tensor(value, dtype=torch.long, device=device)
    if row.ndim and row.shape != (n,):
        raise InputError(f"target: one entry per row is needed, [{n}], not {list(row.shape)}")
    return row.expand(n)


def _part(logits: Tensor, index: Tensor, contrast: int | Tensor | None, position: Tensor, output: str) -> Part:
    chosen = index[:, None]
    seed = torch.zeros_like(logits).scatter_(1, chosen, 1)
    if contrast is not None:
        against = _per_row(contrast, len(logits), logits.device)[:, None]
        seed = seed.scatter_add(1, against, -torch.ones_like(logits[:, :1]))
        chosen = torch.cat((chosen, against), 1)
    gradient = seed if output == "logit" else _through_softmax(seed, logits)
    return Part(gradient, seed, position, index, chosen, output)


def _through_softmax(seed: Tensor, logits: Tensor) -> Tensor:
    """Gradient of sum(seed * softmax(logits)) for the logits, along dimension 1."""
    probability = logits.softmax(1)
    return probability * (seed - (probability * seed).sum(1, keepdim=True))


def _end_part(
    logits: Tensor, ends: Tensor, end: int, position: Tensor, contrast: int | Tensor | None, output: str
) -> Part:
    one = _part(ends[..., end], position, contrast, position, output)

    def placed(x: Tensor) -> Tensor:
        seed = torch.zeros_like(logits)
        seed[..., end] = x.nan_to_num(0.0)
        return seed

    return replace(one, gradient=placed(one.gradient), relevance=placed(one.relevance), end=end)
