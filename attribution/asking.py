"""Methods that ask the model again: for its output on perturbed copies, or for gradients at other embeddings.

Such a method is a generator of asks. All that are under way ask in rounds; what they ask for in one round is run
together, so that copies which several methods want are run once.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attribution.model.adapter import ModelAdapter, frozen
from attribution.model.inputs import Inputs
from attribution.perturb import Marks, Memory, PassCounts, Perturbation, default_batch_tokens, run_perturbed
from attribution.targets import Part


@dataclass(frozen=True)
class Gradients:
    """Ask for what is explained and its gradient where `embeddings` [R, N, E] replace the word embeddings of rows [R].

    The answer is a pair: values [R], gradients [R, N, E].
    """

    rows: Tensor
    embeddings: Tensor


@dataclass(frozen=True)
class Scored:
    """Scores [B, N], and what else is known of each example by name: [B]."""

    scores: Tensor
    facts: dict[str, Tensor]


@dataclass(frozen=True)
class Values:
    """Ask for what is explained, [R], where `embeddings` [R, N, E] replace the word embeddings of rows [R]."""

    rows: Tensor
    embeddings: Tensor


Ask = Perturbation | Gradients | Values  # the answer to a perturbation: values [R] of what is explained
Asking = Generator[Ask, Any, Tensor | Scored]


@dataclass(frozen=True)
class Surroundings:
    """What asks are answered with: the model, the rows [B, N] (left-aligned) and how much one pass takes."""

    adapter: ModelAdapter
    inputs: Inputs
    max_tokens: int
    columns: Tensor | None = None  # [B, P] positions whose next token is explained
    memory: Memory | None = None  # of copies that were run before


def conduct(around: Surroundings, asking: Sequence[tuple[Part, Asking]]) -> tuple[list[Tensor | Scored], PassCounts]:
    """Take methods to their ends; what each returned, and what the perturbed copies cost."""
    ends: dict[int, Tensor | Scored] = {}
    answers: dict[int, Any] = dict.fromkeys(range(len(asking)))
    counts = PassCounts()
    while answers:
        asks: dict[int, Ask] = {}
        for index, answer in answers.items():
            try:
                asks[index] = asking[index][1].send(answer)
            except StopIteration as end:
                ends[index] = end.value
        answers, cost = _answered(around, {index: (asking[index][0], ask) for index, ask in asks.items()})
        counts += cost
    return [ends[index] for index in range(len(asking))], counts


def _answered(around: Surroundings, asks: dict[int, tuple[Part, Ask]]) -> tuple[dict[int, Any], PassCounts]:
    copies = {index: (part, ask) for index, (part, ask) in asks.items() if isinstance(ask, Perturbation)}
    answers: dict[int, Any] = {
        index: _embedded(around, part, ask) for index, (part, ask) in asks.items() if not isinstance(ask, Perturbation)
    }
    if not copies:
        return answers, PassCounts()
    values, counts = perturbed_values(around, list(copies.values()))
    return answers | dict(zip(copies, values, strict=True)), counts


def perturbed_values(
    around: Surroundings, asks: Sequence[tuple[Part, Perturbation]]
) -> tuple[list[Tensor], PassCounts]:
    """What each part explains on the copies it asks for, [R]; equal copies are run once whoever asks."""
    parts = list({id(part): part for part, _ in asks}.values())
    column = {id(part): number for number, part in enumerate(parts)}
    widths, chosen = [part.chosen.shape[1] for part in parts], torch.cat([part.chosen for part in parts], 1)

    def read(logits: Tensor, batch: Inputs, marks: Marks) -> Tensor:
        own = marks.labels if marks.positions is None else marks.positions
        assert own is not None
        choices = own.split_with_sizes(widths, 1)
        attended = batch.attention_mask.bool()
        return torch.stack([part.value(logits, attended, each) for part, each in zip(parts, choices, strict=True)], 1)

    marks = Marks(labels=chosen, reads=around.columns) if parts[0].end is None else Marks(positions=chosen)
    results, counts = run_perturbed(
        around.adapter, around.inputs, [ask for _, ask in asks], read, marks=marks, memory=around.memory
    )
    return [result[:, column[id(part)]] for result, (part, _) in zip(results, asks, strict=True)], counts


def _embedded(around: Surroundings, part: Part, ask: Gradients | Values) -> Any:
    """The answer to an ask about embeddings, in passes that keep the device busy and no larger."""
    size = max(1, min(around.max_tokens, default_batch_tokens(around.adapter)) // ask.embeddings.shape[1])
    chunks = zip(torch.split(ask.rows, size), torch.split(ask.embeddings, size), strict=True)
    if isinstance(ask, Values):
        with torch.no_grad():
            return torch.cat([_value(around, part, rows, embeddings) for rows, embeddings in chunks])
    values, gradients = zip(*(_gradient(around, part, rows, embeddings) for rows, embeddings in chunks), strict=True)
    return torch.cat(values), torch.cat(gradients)


def _gradient(around: Surroundings, part: Part, rows: Tensor, embeddings: Tensor) -> tuple[Tensor, Tensor]:
    leaf = embeddings.detach().to(around.adapter.dtype).requires_grad_()
    with torch.enable_grad():
        values = _value(around, part, rows, leaf)
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
    return values.detach(), gradient


def _value(around: Surroundings, part: Part, rows: Tensor, embeddings: Tensor) -> Tensor:
    """What is explained of rows [R], read from these embeddings: [R]; differentiable where gradients are recorded."""
    inputs = around.inputs.rows(rows)
    with frozen(around.adapter.model), embedded_as(around.adapter, embeddings.to(around.adapter.dtype)):
        logits = around.adapter.forward(inputs, None if around.columns is None else around.columns[rows])
    return part.value(logits, inputs.attention_mask.bool(), part.chosen[rows])


@contextmanager
def embedded_as(adapter: ModelAdapter, embeddings: Tensor) -> Iterator[None]:
    """Let `embeddings` [R, N, E] stand in for what the word embeddings give."""
    hook = adapter.model.get_input_embeddings().register_forward_hook(lambda *_: embeddings)
    try:
        yield
    finally:
        hook.remove()
