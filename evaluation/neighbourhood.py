"""What changes together when a text's word embeddings are moved a little: scores, input, output and hidden states."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attribution.errors import InputError
from attribution.explainer import Explainer
from attribution.model.adapter import align, restore
from attribution.model.inputs import Inputs
from attribution.targets import of_rows
from evaluation.randomised import Methods, Scores, added, evenly, noise_of, of_one, require_single_pass, scores_of_many
from evaluation.relative_stability import relative_change


@dataclass(frozen=True)
class Neighbourhood:
    """Of n neighbours of each text; the changes are what the scores' change is compared with."""

    neighbours: Tensor  # [B, n, N] scores
    input_distance: Tensor  # [B, n] of the word embeddings, Euclidean
    input_change: Tensor  # [B, n] the same, relative
    output_change: Tensor  # [B, n] of the logits
    representation_change: Tensor  # [B, n] of the last layer's hidden states, relative
    same_class: Tensor  # bool [B, n] whether the model decides as for the text

    def given(self) -> dict[str, Tensor]:
        """By the names that metrics have for them: `evaluate(metric, scores=..., tokens=..., **given)`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def neighbourhood_many(
    explainer: Explainer,
    inputs: Inputs,
    methods: Methods,
    *,
    target: Any,
    n: int = 10,
    radius: float = 0.02,
    seed: int = 0,
) -> dict[str, Neighbourhood]:
    """Move every number of the word embeddings by at most `radius` of their range, n times.

    For classification and question answering. A text's neighbours follow from its tokens and the seed alone.
    """
    require_single_pass(methods)
    if explainer.adapter.is_generative:
        raise InputError(f"relative stability is for classification and answers, not for {explainer.adapter.task}")
    aligned, index = align(inputs)
    scores, changes = [], []
    for row in range(len(inputs.input_ids)):
        own = slice(row, row + 1)
        seeds = [seed + sample for sample in range(n)]
        moved, changed = _moved(explainer, aligned.rows(own), methods, of_rows(target, own), seeds, radius)
        scores.append(moved)
        changes.append(changed)
    columns = [torch.stack(column) for column in zip(*changes, strict=True)]
    return {
        label: Neighbourhood(restore(torch.stack([row[label] for row in scores]), index, dim=2), *columns)
        for label in methods
    }


neighbourhood = of_one(neighbourhood_many)


class _Read(NamedTuple):
    """Of one text: logits and last hidden states of the attended tokens [M], and the class or the two ends."""

    logits: Tensor
    states: Tensor
    decided: Tensor


def _moved(
    explainer: Explainer, row: Inputs, methods: Methods, target: Any, seeds: list[int], radius: float
) -> tuple[Scores, list[Tensor]]:
    """Scores [n, N] of one text's neighbours by method, and what changed with them: five times [n]."""
    attended = row.attention_mask.bool()[0]
    with torch.inference_mode():
        words = explainer.model.get_input_embeddings()(row.input_ids.to(explainer.adapter.device))[0, attended].double()
    before, found, changes = _read(explainer, row), [], []
    for seed in seeds:
        noise = noise_of(explainer, row, radius, seed, evenly)
        with added(explainer, noise):
            found.append(scores_of_many(explainer, row, methods, target))
            after = _read(explainer, row)
        moved = words + noise[0, attended].to(words.device)
        changes.append(
            (
                (moved - words).norm(),
                relative_change(words.flatten(), moved.flatten()),
                (after.logits - before.logits).norm(),
                relative_change(before.states, after.states),
                torch.eq(after.decided, before.decided).all(),
            )
        )
    scores = {label: torch.cat([each[label] for each in found]).cpu() for label in methods}
    return scores, [torch.stack(column).cpu() for column in zip(*changes, strict=True)]


def _read(explainer: Explainer, row: Inputs) -> _Read:
    attended = row.attention_mask.bool()[0]
    logits = explainer.adapter.logits(row)[0].double()
    logits = logits[attended.to(logits.device)] if explainer.adapter.is_qa else logits
    states = explainer.adapter.states(row)[-1][0].double()
    return _Read(logits.flatten(), states[attended.to(states.device)].flatten(), logits.argmax(0))
