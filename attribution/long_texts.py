"""Texts of any length: scores and predictions of each, cut off or in windows where the model takes no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from attribution.encoding import Tokenized, read_results, results_of, tokenize
from attribution.errors import InputError
from attribution.finite import problems
from attribution.model.inputs import Inputs, padded_rows
from attribution.targets import Target, TargetLike, as_target, parts, span_positions
from attribution.windows import LONG_TEXTS, Windows, answering

if TYPE_CHECKING:
    from attribution.explainer import Explainer, Request

Found = tuple[Tokenized, Tensor, list[dict[str, Any]]]  # texts, scores [B, N], what else is known of each


def explained_texts(
    explainer: Explainer,
    texts: Sequence[str | tuple[str, str]],
    request: Request,
    target: TargetLike,
    max_length: int | None,
    long_texts: str,
    stride: int | None,
) -> Found:
    """Scores of texts by one method; see `Explainer.explain`."""
    if long_texts not in LONG_TEXTS:
        raise InputError(f"long_texts={long_texts} is unknown; choices: {', '.join(LONG_TEXTS)}")
    limit = max_length or explainer.adapter.max_length
    whole = tokenize(explainer.adapter, texts, None)
    if max(whole.lengths) <= limit:
        return _as_they_are(explainer, whole, whole, request, target)
    if long_texts == "truncate":
        return _as_they_are(explainer, whole, tokenize(explainer.adapter, texts, limit), request, target)
    windows = [Windows.of(fields, limit, stride) for fields in whole.fields]
    cut = _Cut(explainer, whole, windows, request)
    read = _answers if explainer.adapter.is_qa else _classes
    scores, results = read(cut, target)
    about = [{"n_tokens": n, "windows": len(own)} for n, own in zip(whole.lengths, windows, strict=True)]
    return whole, scores, [result | more for result, more in zip(results, about, strict=True)]


def _as_they_are(
    explainer: Explainer, whole: Tokenized, batch: Tokenized, request: Request, target: TargetLike
) -> Found:
    scores, wrong = _scores(explainer, batch.inputs, request, target)
    results = results_of(explainer.adapter, batch.inputs, target)
    rows = zip(batch.lengths, whole.lengths, wrong, strict=True)
    about = [{"n_tokens": kept, "truncated": full - kept, "problem": why} for kept, full, why in rows]
    return batch, scores, [result | more for result, more in zip(results, about, strict=True)]


Scores = tuple[Tensor, list[str | None]]  # [B, N], and what is wrong with each row


def _scores(explainer: Explainer, inputs: Inputs, request: Request, target: TargetLike) -> Scores:
    given: dict[str, Any] = dict(inputs.present())
    spec = {"method": request.method, **request.parameters}
    scores = explainer.scores_many(**given, methods={"": spec}, target=target)[""]
    return scores, problems(explainer.adapter, inputs, scores, request, target)


@dataclass(frozen=True)
class _Cut:
    """Whole texts and the windows of each; those of all texts stand one after the other."""

    explainer: Explainer
    whole: Tokenized
    windows: list[Windows]
    request: Request

    @cached_property
    def inputs(self) -> Inputs:
        """All windows [W, n], padded on the right."""
        return padded_rows(
            self.whole.inputs,
            [(text, columns) for text, own in enumerate(self.windows) for columns in own.columns],
            self.explainer.adapter.pad_id or 0,
        )

    @cached_property
    def owner(self) -> Tensor:
        """[W] the text of each window."""
        return torch.repeat_interleave(torch.tensor([len(own) for own in self.windows]))

    @cached_property
    def logits(self) -> Tensor:
        """[W, C] or [W, n, 2], on the processor."""
        size = max(1, self.explainer.max_tokens // self.inputs.shape[1])
        rows = torch.split(torch.arange(len(self.owner)), size)
        return torch.cat([self.explainer.adapter.logits(self.inputs.rows(each)).cpu() for each in rows])

    def of_text(self, values: Tensor) -> tuple[Tensor, ...]:
        """Values of all windows [W, ...] by text."""
        return torch.split(values, [len(own) for own in self.windows])


def _classes(cut: _Cut, target: TargetLike) -> tuple[Tensor, list[dict[str, Any]]]:
    """A text's logits are the mean over its windows; what it explains is explained of each of them."""
    if cut.explainer.adapter.is_generative:
        raise InputError("long_texts=windows: the next token follows the end of a text, which one window alone has")
    logits = torch.stack(
        [own.mean_logits(rows) for own, rows in zip(cut.windows, cut.of_text(cut.logits), strict=True)]
    )
    everything = torch.ones_like(logits, dtype=torch.bool)
    (part,) = parts(target, logits, everything, torch.zeros(len(logits), dtype=torch.long))
    index, *contrast = part.chosen[cut.owner].unbind(1)
    goal = Target("class", index=index, contrast=contrast[0] if contrast else None)
    scores, wrong = _scores(cut.explainer, cut.inputs, cut.request, goal)
    whole = [
        own.joined([row[: len(columns)] for row, columns in zip(rows, own.columns, strict=True)])
        for own, rows in zip(cut.windows, cut.of_text(scores), strict=True)
    ]
    results = read_results(cut.explainer.adapter, logits, everything, target)
    for why, text in zip(wrong, cut.owner.tolist(), strict=True):
        results[text]["problem"] = results[text].get("problem") or why
    return pad_sequence(whole, batch_first=True), results


def _answers(cut: _Cut, target: TargetLike) -> tuple[Tensor, list[dict[str, Any]]]:
    """A question is answered by one window, the surest; what the others hold has no part in that answer."""
    goal = as_target(target, "question_answering")
    if goal.position is not None or goal.contrast is not None:
        raise InputError("long_texts=windows: answers are explained where they are predicted; leave the position out")
    visible = cut.inputs.attention_mask.bool().cpu()
    ends = cut.logits.masked_fill(~visible[..., None], -torch.inf)
    best = span_positions(None, ends)
    values = ends.gather(1, best[:, None, :])[:, 0]
    surest = [answering(*pair) for pair in zip(cut.of_text(values), cut.of_text(best), strict=True)]
    first = torch.tensor([0, *(len(own) for own in cut.windows)]).cumsum(0)[:-1]
    rows = first + torch.tensor(surest)
    scores, wrong = _scores(cut.explainer, cut.inputs.rows(rows), cut.request, goal)
    results = read_results(cut.explainer.adapter, cut.logits[rows], visible[rows], goal)
    whole = [
        own.alone(window, row[: len(own.columns[window])])
        for own, window, row in zip(cut.windows, surest, scores, strict=True)
    ]
    found = zip(results, wrong, cut.windows, surest, strict=True)
    moved = [_moved(result, own.columns[window]) | {"problem": why} for result, why, own, window in found]
    return pad_sequence(whole, batch_first=True), moved


def _moved(result: dict[str, Any], columns: list[int]) -> dict[str, Any]:
    """Positions of a window as those of the whole text."""

    def at(position: int | tuple[int, ...]) -> Any:
        return columns[position] if isinstance(position, int) else tuple(columns[each] for each in position)

    return {**result, "target": at(result["target"]), "prediction": at(result["prediction"])}
