"""What is explained: a class, a label, an answer's start or end, the next token; or a difference of two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attribution.errors import InputError

QA_KINDS = ("start", "end", "span")
CLASS_KINDS = ("class", "predicted", "gold", "runner_up")
NEXT_KINDS = ("next_token", "predicted", "runner_up")
MASKED_KINDS = ("masked_token", "predicted", "runner_up")
KINDS = {
    "question_answering": QA_KINDS,
    "classification": CLASS_KINDS,
    "next_token": NEXT_KINDS,
    "masked_token": MASKED_KINDS,
}
TOKEN_TASKS = ("next_token", "masked_token")  # what is explained is a token, and the kind has the name of the task
# Which fields of a target are columns of the input, and move when rows are aligned.
COLUMN_FIELDS: dict[str, tuple[str, ...]] = {
    "question_answering": ("position", "contrast"),
    "classification": (),
    **dict.fromkeys(TOKEN_TASKS, ("position",)),
}
OUTPUTS = ("logit", "probability")


@dataclass(frozen=True)
class Target:
    """What a method explains.

    kind: `class` (with `index`), `predicted`, `runner_up`; `gold` needs `index`, the gold labels. For question
        answering `start`, `end` or `span` (start plus end, as separate seeds), at `position` or where the model
        predicts them. For decoders `next_token`: the token `index` as what follows `position`. For masked language
        models `masked_token`: the token `index` in place of the mask at `position`.
    index: class or token id, int or [B]; None is the predicted one where the kind says so.
    position: a column of the input, int or [B]; for `span` [B, 2]; for `next_token` None is the last token, for
        `masked_token` the first mask.
    contrast: class, token id or position whose logit is subtracted, int or [B].
    """

    kind: str = "class"
    index: int | Tensor | None = None
    position: int | Tensor | None = None
    contrast: int | Tensor | None = None


TargetLike = Target | str | int | Tensor | None


@dataclass(frozen=True)
class Part:
    """One seed: what a backward starts from, and the position whose row is read.

    logits: of the rows as they are, [B, C], [B, N, 2] or [B, P, V]; visible: bool [B, N]. `position` and `index`: [B].
    chosen: [B, 1], or [B, 2] with what is subtracted: classes, tokens, or positions of one `end` of an answer. column:
    which of the P positions is explained. independent: labels do not exclude each other, so that their probabilities
    are sigmoids.
    """

    logits: Tensor
    visible: Tensor
    position: Tensor
    index: Tensor
    chosen: Tensor
    output: str = "logit"
    end: int | None = None
    column: int | None = None
    independent: bool = False

    def value(self, logits: Tensor, attended: Tensor, chosen: Tensor) -> Tensor:
        """[R] what is explained of logits like `self.logits` where `chosen` [R, 1 or 2] is; float32 or wider.

        attended: bool [R, N].
        """
        picked = self._link(self._candidates(logits, attended)).gather(1, chosen)
        return picked[:, 0] - picked[:, 1] if chosen.shape[1] > 1 else picked[:, 0]

    def decided(self, logits: Tensor, attended: Tensor, chosen: Tensor) -> Tensor:
        """Bool [R]: whether logits like `self.logits` decide for the first of `chosen` [R, 1 or 2], as in `value`."""
        candidates = self._candidates(logits, attended)
        own = candidates.gather(1, chosen[:, :1])[:, 0]
        return own > 0 if self.independent else candidates.argmax(1) == chosen[:, 0]

    @property
    def gradient(self) -> Tensor:
        """Gradient of what is explained for the logits, like the logits."""
        return self._seed(self)

    @property
    def relevance(self) -> Tensor:
        """1 at the explained logit, -1 at what is subtracted, like the logits."""
        return self._seed(replace(self, output="logit"))

    def _candidates(self, logits: Tensor, attended: Tensor) -> Tensor:
        """[R, C] what `chosen` is one of; float32 or wider."""
        candidates = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.end is not None:
            candidates = candidates[..., self.end].masked_fill(~attended, -torch.inf)
        elif self.column is not None:
            candidates = candidates[:, self.column]
        return candidates

    def _link(self, candidates: Tensor) -> Tensor:
        if self.output == "logit":
            return candidates
        if self.output == "log_probability":  # of losses; not asked for by name
            return F.logsigmoid(candidates) if self.independent else candidates.log_softmax(1)
        return candidates.sigmoid() if self.independent else candidates.softmax(1)

    def _seed(self, explained: Part) -> Tensor:
        """Made when asked for: as large as the logits, which for next tokens is as large as anything there is."""
        with torch.enable_grad():
            leaf = self.logits.detach().requires_grad_()
            (seed,) = torch.autograd.grad(explained.value(leaf, self.visible, self.chosen).sum(), leaf)
        return seed


def parts(
    target: TargetLike,
    logits: Tensor,
    visible: Tensor,
    read_out: Tensor,
    output: str = "logit",
    *,
    columns: Tensor | None = None,
    task: str = "next_token",
    independent: bool = False,
) -> list[Part]:
    """The seeds of a target: one, or two for a span; their scores add up.

    logits: [B, C], [B, N, 2], or [B, P, V] at `columns` [B, P]; visible: [B, N] attended positions; read_out: [B]
    position that feeds a classifier, or the last one of a decoder. task: one of `TOKEN_TASKS`, where there are columns.
    independent: see `Part`.
    """
    if output not in OUTPUTS:
        raise InputError(f"output={output} is unknown; choices: {', '.join(OUTPUTS)}")
    if columns is not None:
        return [_token_part(as_target(target, task), logits, visible, columns, read_out, output)]
    if logits.ndim == 2:
        goal = as_target(target, "classification")
        chosen = _chosen(_index_of(goal, logits, "classes"), goal, logits)
        return [Part(logits, visible, read_out, chosen[:, 0], chosen, output, independent=independent)]
    return _answer_parts(as_target(target, "question_answering"), logits, visible, output)


def of_rows(target: TargetLike, rows: slice) -> TargetLike:
    """The rows' part of a target."""
    if isinstance(target, Tensor) and target.ndim:
        return target[rows]
    if isinstance(target, str) or target is None or isinstance(target, (int, Tensor)):
        return target
    values = {name: getattr(target, name) for name in ("index", "position", "contrast")}
    selected: dict[str, Any] = {n: v[rows] for n, v in values.items() if isinstance(v, Tensor) and v.ndim}
    return replace(target, **selected)


def as_target(target: TargetLike, task: str) -> Target:
    """The target in full; raises `InputError` for a kind that does not fit the task."""
    if isinstance(target, Target):
        goal = target
    elif isinstance(target, str):
        goal = Target(target)
    elif task == "question_answering":
        goal = Target("span", position=target)
    elif target is None:
        goal = Target("predicted")
    else:
        goal = Target(task if task in TOKEN_TASKS else "class", index=target)
    if goal.kind not in KINDS[task]:
        raise InputError(f"target={goal.kind} does not fit {task.replace('_', ' ')}; choices: {', '.join(KINDS[task])}")
    return goal


def in_aligned_columns(target: TargetLike, task: str, index: Tensor | None) -> TargetLike:
    """The target where row b begins with its column index[b, 0] (`model.adapter.align`)."""
    if index is None or not COLUMN_FIELDS[task]:
        return target
    goal, first = as_target(target, task), index[:, 0]
    given = {name: value for name in COLUMN_FIELDS[task] if (value := getattr(goal, name)) is not None}
    moved: dict[str, Any] = {}
    for name, value in given.items():
        at = torch.as_tensor(value, device=first.device)
        moved[name] = at - (first[:, None] if at.ndim == 2 else first)
    return replace(goal, **moved)


def token_columns(targets: Sequence[TargetLike], visible: Tensor, read_out: Tensor, task: str = "next_token") -> Tensor:
    """[B, P] the different positions that targets of one of `TOKEN_TASKS` explain."""
    columns: list[Tensor] = []
    for target in targets:
        column = _column_of(as_target(target, task), read_out)
        inside = (column >= 0) & (column < visible.shape[1])
        if not bool((inside & visible.gather(1, column.clamp(0, visible.shape[1] - 1)[:, None])[:, 0]).all()):
            raise InputError("target: an explained position lies on padding or outside of the text")
        if not any(torch.equal(column, known) for known in columns):
            columns.append(column)
    return torch.stack(columns, 1)


def following_tokens(input_ids: Tensor, start: int) -> list[Target]:
    """A target for every token from column `start` on: this token, as what follows the one before it.

    For texts a decoder has generated behind prompts that end at `start` (padding on the left).
    """
    if not 0 < start < input_ids.shape[1]:
        raise InputError(f"start={start} is no column between the first and the last, of {input_ids.shape[1]}")
    return [Target("next_token", input_ids[:, at], at - 1) for at in range(start, input_ids.shape[1])]


def _column_of(goal: Target, read_out: Tensor) -> Tensor:
    return read_out if goal.position is None else _per_row(goal.position, len(read_out), read_out.device)


def _token_part(goal: Target, logits: Tensor, visible: Tensor, columns: Tensor, read_out: Tensor, output: str) -> Part:
    position = _column_of(goal, read_out)
    column = int((columns == position[:, None]).all(0).nonzero()[0])
    own = logits[:, column]
    chosen = _chosen(_index_of(goal, own, "tokens"), goal, own)
    return Part(logits, visible, position, chosen[:, 0], chosen, output, column=column)


def _answer_parts(goal: Target, logits: Tensor, visible: Tensor, output: str) -> list[Part]:
    attended = logits.masked_fill(~visible[..., None], -torch.inf)
    if goal.kind == "span":
        positions = span_positions(goal.position, attended)
        ends = {end: positions[:, end] for end in (0, 1)}
    else:
        end = QA_KINDS.index(goal.kind)
        best = attended[..., end].argmax(1)
        ends = {end: best if goal.position is None else _per_row(goal.position, len(logits), logits.device)}
    return [
        Part(logits, visible, at, at, _chosen(at, goal, attended[..., end]), output, end=end)
        for end, at in ends.items()
    ]


def span_positions(given: int | Tensor | None, ends: Tensor) -> Tensor:
    """[B, 2] explained start and end: as given, or where the model predicts them."""
    if given is None:
        return ends.argmax(1)
    if not isinstance(given, Tensor) or given.shape != (len(ends), 2):
        raise InputError("target: a span needs positions as a tensor [B, 2]")
    return given.to(ends.device)


def _index_of(goal: Target, logits: Tensor, names: str) -> Tensor:
    """[B] the explained class or token of logits [B, C]."""
    if goal.kind in ("predicted", "runner_up") or (goal.kind in TOKEN_TASKS and goal.index is None):
        rank = int(goal.kind == "runner_up")
        if logits.shape[1] <= rank:
            raise InputError("target=runner_up needs a model of at least two classes")
        return logits.topk(rank + 1, dim=1).indices[:, rank]
    if goal.index is None:
        raise InputError(f"target={goal.kind} needs the {names}: Target({goal.kind!r}, index=...)")
    index = _per_row(goal.index, len(logits), logits.device)
    if bool(((index < 0) | (index >= logits.shape[1])).any()):
        raise InputError(f"target={goal.index} is outside the model's {logits.shape[1]} {names}")
    return index


def _chosen(index: Tensor, goal: Target, candidates: Tensor) -> Tensor:
    """[B, 1], or [B, 2] with what is subtracted."""
    if goal.contrast is None:
        return index[:, None]
    against = _per_row(goal.contrast, len(candidates), candidates.device)
    if bool(((against < 0) | (against >= candidates.shape[1])).any()):
        raise InputError(f"target: contrast={goal.contrast} is outside the model's {candidates.shape[1]} outputs")
    return torch.stack((index, against), 1)


def _per_row(value: int | Tensor, n: int, device: torch.device) -> Tensor:
    row = torch.as_tensor(value, dtype=torch.long, device=device)
    if row.ndim and row.shape != (n,):
        raise InputError(f"target: one entry per row is needed, [{n}], not {list(row.shape)}")
    return row.expand(n)
