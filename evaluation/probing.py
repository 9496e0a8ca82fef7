"""How easily a label is read from hidden states: online coding with a small probe.

Source: Voita & Titov 2020; the probe and its numbers are those of the Value Zeroing code (Mohebbi et al. 2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from attribution.errors import InputError

PORTIONS = (0.8, 1.6, 3.2, 6.25, 12.5, 25.0, 50.0, 100.0)  # percent of the examples that are sent by the end of a block


@dataclass(frozen=True)
class OnlineCode:
    """Length of the labels' code: the first block costs log2(K) a label, each later one what the probe makes of it."""

    n: int
    n_classes: int
    blocks: tuple[float, ...]

    @property
    def length(self) -> float:
        """Of the whole code."""
        return math.fsum(self.blocks)

    @property
    def compression(self) -> float:
        """How many times shorter it is than that of labels nothing is known about."""
        return self.n * math.log2(self.n_classes) / self.length


@dataclass(frozen=True)
class Form:
    """How the output of a probe is scored: strictly, or as the Value Zeroing code does it.

    twice: the softmax is taken of probabilities once more. unit: nats in one bit of the block lengths; the reference
    adds nats to the bits of the first block.
    """

    twice: bool
    unit: float


FORMS = {"strict": Form(twice=False, unit=math.log(2)), "reference": Form(twice=True, unit=1.0)}


@dataclass(frozen=True)
class ProbeRecipe:
    """Everything that decides a probe next to its data."""

    width: int = 128
    epochs: int = 15
    patience: int = 5  # epochs without a shorter code before training ends
    batch_size: int = 128
    learning_rate: float = 1e-3
    seed: int = 0  # of the order, the weights and the dropout


def block_ends(n: int, portions: Sequence[float] = PORTIONS) -> list[int]:
    """How many of n examples are sent by the end of each block; blocks that would be empty are left out."""
    ends = sorted({int(n * portion / 100) for portion in portions} - {0})
    if not ends or ends[-1] != n:
        raise InputError(f"probing: {n} examples do not make the blocks {list(portions)} %, which end at 100")
    return ends


def online_code(n: int, n_classes: int, code: Callable[[int, int], float], ends: Sequence[int]) -> OnlineCode:
    """The code of n labels of `n_classes`; code(a, b) is the length of the labels a..b-1, those before a known."""
    later = [code(first, last) for first, last in pairwise(ends)]
    return OnlineCode(n, n_classes, (ends[0] * math.log2(n_classes), *later))


def probe_code(
    states: Tensor, labels: Tensor, *, n_classes: int, form: str = "strict", recipe: ProbeRecipe = ProbeRecipe()
) -> OnlineCode:
    """The code of labels [n] given states [n, D], sent in a seeded order; a new probe is trained for every block.

    The epoch of the shortest code of the block counts, as in the reference in both forms, so that lengths are lower
    bounds of codes that could be read. The global random state stays as it was.
    """
    if form not in FORMS:
        raise InputError(f"probing: form={form} is unknown; choices: {', '.join(FORMS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        order = torch.randperm(len(labels))
        x, y = states[order].float(), labels[order].long()

        def code(known: int, last: int) -> float:
            return _shortest(x[:known], y[:known], x[known:last], y[known:last], n_classes, FORMS[form], recipe)

        return online_code(len(y), n_classes, code, block_ends(len(y)))


class Probe(nn.Sequential):
    """Two layers between dropouts: [n, D] -> logits [n, K]."""

    def __init__(self, width: int, recipe: ProbeRecipe, n_classes: int) -> None:
        super().__init__(
            nn.Dropout(0.2),
            nn.Linear(width, recipe.width),
            nn.ReLU(),
            nn.LayerNorm(recipe.width),
            nn.Dropout(0.3),
            nn.Linear(recipe.width, n_classes),
        )


def code_length(logits: Tensor, labels: Tensor, form: Form) -> Tensor:
    """Length of the code of labels [n] given the probe's logits [n, K], summed."""
    scored = logits.softmax(-1) if form.twice else logits
    return nn.functional.cross_entropy(scored, labels, reduction="sum") / form.unit


def _shortest(
    x: Tensor, y: Tensor, next_x: Tensor, next_y: Tensor, n_classes: int, form: Form, recipe: ProbeRecipe
) -> float:
    """Shortest code of the next block that a probe trained on the known examples gives, over its epochs."""
    probe = Probe(x.shape[1], recipe, n_classes)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=recipe.learning_rate)
    best, waited = math.inf, 0
    for _ in range(recipe.epochs):
        _epoch(probe, optimizer, x, y, form, recipe)
        length = _length_of(probe, next_x, next_y, form)
        best, waited = (length, 0) if length < best else (best, waited + 1)
        if waited >= recipe.patience:
            break
    return best


def _epoch(
    probe: Probe, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, form: Form, recipe: ProbeRecipe
) -> None:
    probe.train()
    for rows in torch.split(torch.randperm(len(y)), recipe.batch_size):
        optimizer.zero_grad()
        loss = code_length(probe(x[rows]), y[rows], form) / len(rows)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _length_of(probe: Probe, x: Tensor, y: Tensor, form: Form) -> float:
    probe.eval()
    with torch.no_grad():
        return float(code_length(probe(x), y, form))
