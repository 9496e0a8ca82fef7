"""Global relevance of heads to patterns, against three references: the other heads, random models, even attention.

Source: Li et al. 2022 (the formula as we recall it); their threshold is mean + 3 standard deviations of a reference we
could not look up, so that all three are kept, and the decision takes a random model and even attention together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from attribution.columns import RELEVANCE
from attribution.errors import InputError
from attribution.model.adapter import ModelAdapter
from attribution.patterns.blocks import Predicate
from attribution.patterns.mass import TENSORS, PatternMass, measure
from attribution.patterns.schema import Head

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DEVIATIONS, TIMES_UNIFORM = 3.0, 3.0


@dataclass(frozen=True)
class PatternRelevance:
    """What the attention of a model, and of random ones like it, says of patterns. [P, L, H] unless told otherwise."""

    mass: PatternMass
    random: tuple[PatternMass, ...] = ()
    queries: str = "all"

    @property
    def names(self) -> tuple[str, ...]:
        """The patterns."""
        return self.mass.names

    @cached_property
    def scores(self) -> Tensor:
        """Mean over documents; in [0, 1]. NaN for a pattern that applies in none."""
        return self.mass.over(self.queries)[0].nanmean(0)

    @cached_property
    def uniform(self) -> Tensor:
        """[P] the score of a head that attends evenly."""
        return self.mass.over(self.queries)[1].nanmean(0)

    @cached_property
    def standard_error(self) -> Tensor:
        """Of the scores, over documents in which the pattern applies; NaN for fewer than two."""
        each = self.mass.over(self.queries)[0]
        count = (~each.isnan()).sum(0)
        variance = (each - self.scores).square().nansum(0) / (count - 1)
        return (variance / count).sqrt().masked_fill(count < 2, torch.nan)

    @cached_property
    def heads_bar(self) -> Tensor:
        """[P] mean + 3 standard deviations over the heads of this model."""
        return _bar(self.scores.flatten(1))

    @cached_property
    def random_bar(self) -> Tensor:
        """[P] mean + 3 standard deviations over the heads of the random models; NaN without any."""
        if not self.random:
            return torch.full_like(self.uniform, torch.nan)
        return _bar(torch.cat([mass.over(self.queries)[0].nanmean(0).flatten(1) for mass in self.random], 1))

    @property
    def bar(self) -> Tensor:
        """[P] what a significant head exceeds: the random models' bar and three times even attention.

        Where even attention reaches a third no head can: such a pattern holds nearly everywhere.
        """
        return torch.maximum(self.random_bar, TIMES_UNIFORM * self.uniform)

    @cached_property
    def significant(self) -> Tensor:
        """Bool: heads whose score exceeds the bar; none without random models."""
        return self.scores > self.bar[:, None, None]

    @property
    def kept(self) -> list[str]:
        """Patterns for which at least one head is significant."""
        return [name for name, heads in zip(self.names, self.significant, strict=True) if heads.any()]

    def chance(self, name: str) -> float:
        """What even attention has of a pattern."""
        return float(self.uniform[self.names.index(name)])

    def ranked(self, name: str) -> list[tuple[Head, float]]:
        """Significant heads of a pattern with their scores, the highest first."""
        index = self.names.index(name)
        heads = [(int(layer), int(head)) for layer, head in self.significant[index].nonzero().tolist()]
        found = [((layer, head), float(self.scores[index, layer, head])) for layer, head in heads]
        return sorted(found, key=lambda each: (-each[1], each[0]))

    def documents(self, name: str, head: Head, *, highest: bool = True, count: int = 10) -> list[tuple[int, float]]:
        """Numbers of the documents that agree with a pattern most, or least, in one head, and their scores."""
        each = self.mass.over(self.queries)[0][:, self.names.index(name), head[0], head[1]]
        order = each.argsort(descending=highest, stable=True).tolist()
        return [(number, float(each[number])) for number in order if not each[number].isnan()][:count]

    def to_table(self) -> pa.Table:
        """One row for each pattern, layer and head, in the columns of `RELEVANCE`."""
        each = self.mass.over(self.queries)[0]
        documents = (~each.isnan()).sum(0)
        rows = [
            {
                "pattern": name, "layer": layer, "head": head, "queries": self.queries,
                "relevance": _value(self.scores[p, layer, head]),
                "standard_error": _value(self.standard_error[p, layer, head]),
                "documents": int(documents[p, layer, head]),
                "uniform": _value(self.uniform[p]), "heads_bar": _value(self.heads_bar[p]),
                "random_bar": _value(self.random_bar[p]),
                "significant": bool(self.significant[p, layer, head]) if self.random else None,
            }
            for p, name in enumerate(self.names)
            for layer in range(self.scores.shape[1])
            for head in range(self.scores.shape[2])
        ]  # fmt: skip
        return pa.Table.from_pylist(rows, RELEVANCE)

    def save_table(self, path: str | Path) -> None:
        """Write the table as Parquet."""
        pq.write_table(self.to_table(), path)

    def save(self, path: str | Path) -> None:
        """Write everything, document by document, as a safetensors file that `load` reads."""
        measured = {"own": self.mass, **{f"random{number}": mass for number, mass in enumerate(self.random)}}
        tensors = {
            f"{of}.{name}": getattr(mass, name).contiguous() for of, mass in measured.items() for name in TENSORS
        }
        about = {"names": json.dumps(self.names), "queries": self.queries, "random": str(len(self.random))}
        save_file(tensors, path, about)

    @classmethod
    def load(cls, path: str | Path) -> PatternRelevance:
        """Read what `save` wrote. A path that is no such file: InputError."""
        if not Path(path).is_file():
            raise InputError(f"conf error: relevance={path} does not exist; measure patterns first.")
        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                names, queries, count = tuple(json.loads(about["names"])), about["queries"], int(about["random"])
                own, *random = (
                    PatternMass(names, *(file.get_tensor(f"{of}.{name}") for name in TENSORS))
                    for of in ("own", *(f"random{number}" for number in range(count)))
                )
        except (SafetensorError, KeyError) as error:
            raise InputError(f"conf error: relevance={path} holds no measured patterns: {error}.") from None
        return cls(own, tuple(random), queries)

    def describe(self) -> list[str]:
        """A line for each pattern: its best head, against the references."""
        return [self._line(index, name) for index, name in enumerate(self.names)]

    def _line(self, index: int, name: str) -> str:
        layer, head = divmod(int(self.scores[index].nan_to_num(-1).argmax()), self.scores.shape[2])
        best, error = (float(each[index, layer, head]) for each in (self.scores, self.standard_error))
        bars = {"even attention": self.uniform, "heads": self.heads_bar, "random models": self.random_bar}
        told = ", ".join(f"{what} {float(bar[index]):.3f}" for what, bar in bars.items() if not bar[index].isnan())
        nearly = " (none can be: it holds nearly everywhere)" if TIMES_UNIFORM * self.uniform[index] >= 1 else ""
        return (
            f"{name}: best {layer}.{head} {best:.3f} (± {error:.3f}); "
            f"{int(self.significant[index].sum())} heads significant{nearly}; {told}; "
            f"{self.queries} queries of {len(self.mass)} documents"
        )


def pattern_relevance(
    adapter: ModelAdapter,
    batches: Sequence[Mapping[str, Tensor]],
    patterns: Mapping[str, Predicate],
    *,
    seeds: Iterable[int] = (0, 1, 2),
    queries: str = "all",
    relations: Sequence[str] = (),
) -> PatternRelevance:
    """The relevance of a model's heads, and of as many random models like it as there are `seeds`."""
    mass = measure(adapter, batches, patterns, relations=relations)
    others = (ModelAdapter(random_like(adapter.model, seed), adapter.tokenizer) for seed in seeds)
    random = tuple(measure(other, batches, patterns, relations=relations) for other in others)
    return PatternRelevance(mass, random, queries)


def random_like(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """A model of the same class and configuration with weights as new ones are drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made: PreTrainedModel = type(model)(model.config)
    for name, buffer in model.named_buffers():
        made.get_buffer(name).copy_(buffer)
    return made.to(device=model.device, dtype=model.dtype).eval()


def _bar(scores: Tensor) -> Tensor:
    """[P] of [P, heads]."""
    return scores.mean(1) + DEVIATIONS * scores.std(1)


def _value(number: Tensor) -> float | None:
    return None if number.isnan() else float(number)
