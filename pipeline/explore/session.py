"""What one explorer holds: a run, its model, some of its texts, and the lock under which the model computes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from attribution.errors import InputError
from attribution.explainer import Explainer
from attribution.model.inputs import Inputs
from attribution.patterns import Tokens, Vocabulary, trees
from attribution.patterns.blocks import Predicate
from attribution.patterns.interventions import check_head
from attribution.patterns.schema import Head
from pipeline.config import ClusterConfig
from pipeline.microbatch import MicroBatch, plan_microbatches, units_of
from pipeline.parsed_texts import ParsedTexts
from pipeline.reopened import Reopened, Row
from pipeline.report.texts import pieces_of
from pipeline.runs import Run
from pipeline.trees import require_known

KEPT_DOCUMENTS = 2  # whose attention stays in memory, all heads of it
TITLE = 80  # characters of a text by which it is named


@dataclass
class Session:
    """A run that is explored. Whatever runs the model holds `lock`: hooks and attention functions are the model's."""

    run: Run
    limit: int = 200
    trees: Path | None = None  # a treebank whose sentences are looked at in place of the run's texts
    lock: threading.RLock = field(default_factory=threading.RLock)
    _attention: dict[int, list[Tensor]] = field(default_factory=dict)

    @cached_property
    def reopened(self) -> Reopened:
        """The run with its model; InputError where the model on this machine is another one."""
        found = Reopened(self.run)
        known = self.run.manifest["model"].get("fingerprint")
        if known and known != found.model.fingerprint:
            raise InputError(
                f"run error: {self.run.folder}: the model in {found.model.folder} has changed since the run; "
                "run it again to explore it."
            )
        return found

    @property
    def explainer(self) -> Explainer:
        """The run's model."""
        return self.reopened.explainer

    @cached_property
    def treebank(self) -> ParsedTexts | None:
        """Its sentences with their trees."""
        if self.trees is None:
            return None
        adapter = self.explainer.adapter
        assert adapter.tokenizer is not None, "a model of a run has its tokenizer"
        return ParsedTexts.load(
            self.trees, adapter.tokenizer, max_length=adapter.max_length, limit=self.limit, key="--trees"
        )

    @cached_property
    def table(self) -> pa.Table:
        """The texts, in the columns of the examples table."""
        return self.treebank.table if self.treebank else self.run.table("examples").slice(0, self.limit)

    @cached_property
    def rows(self) -> list[Row]:
        """The texts, one by one."""
        rows: list[Row] = self.table.to_pylist()
        if not rows:
            raise InputError(f"run error: {self.run.folder} has no texts to look at.")
        return rows

    @cached_property
    def predictions(self) -> list[Row]:
        """What the run predicted for them."""
        known = {row["item_id"]: row for row in self.run.table("predictions").to_pylist()}
        return [known.get(row["item_id"], {}) for row in self.rows]

    @cached_property
    def batches(self) -> list[MicroBatch]:
        """The texts in passes of one length each."""
        known = {name: value for name, value in self.run.config["cluster"].items() if name in ("max_batch",)}
        return plan_microbatches(self.table, ClusterConfig("local", **known), self.explainer.adapter.max_length)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Of the model's tokenizer."""
        return Vocabulary.of(self.explainer.tokenizer)

    @property
    def relations(self) -> tuple[str, ...]:
        """Dependency relations that patterns may follow."""
        return self.treebank.relations if self.treebank else ()

    def tokens(self, numbers: Sequence[int], inputs: Inputs) -> Tokens:
        """Some texts as predicates see them, of their inputs [B, N]."""
        own = Tokens.of(inputs.present(), self.vocabulary, causal=self.explainer.adapter.causal)
        return own if self.treebank is None else replace(own, arcs=self.treebank.arcs(numbers, inputs.shape[1]))

    @contextmanager
    def following(self, numbers: Sequence[int], length: int) -> Iterator[None]:
        """Inside, models whose patterns follow relations know the trees of these texts."""
        if self.treebank is None:
            yield
        else:
            with trees(self.treebank.arcs(numbers, length)):
                yield

    def check(self, predicate: Predicate) -> None:
        """InputError for a predicate that asks for what the texts do not tell: dependency trees."""
        require_known([predicate], self.vocabulary, self.relations)

    @property
    def shape(self) -> tuple[int, int]:
        """Layers, and heads in each."""
        return self.explainer.adapter.n_layers, self.explainer.adapter.n_heads

    def head(self, layer: int, head: int) -> Head:
        """A head that there is."""
        check_head(self.explainer.adapter, (layer, head))
        return layer, head

    def row(self, document: int) -> Row:
        """A text by its number."""
        if not 0 <= document < len(self.rows):
            raise InputError(f"document={document} is not there; they are 0 to {len(self.rows) - 1}.")
        return self.rows[document]

    def titles(self) -> list[dict[str, Any]]:
        """A line for each text."""
        return [
            {
                "title": _title(row), "tokens": len(row["input_ids"]), "label": row["label_name"],
                "predicted": found.get("predicted"), "row": row["row_index"],
            }
            for row, found in zip(self.rows, self.predictions, strict=True)
        ]  # fmt: skip

    def document(self, number: int) -> dict[str, Any]:
        """A text as the page shows it: tokens as they are written, and the words that they make."""
        row = self.row(number)
        words = self.words(number)
        return {
            "number": number, "pieces": pieces_of(row), "special": row["special_tokens"], "words": words.tolist(),
            "predicted": self.predictions[number].get("predicted"), "label": row["label_name"],
            "probabilities": self.predictions[number].get("probabilities"), "truncated": row["truncated"],
        }  # fmt: skip

    def words(self, number: int) -> Tensor:
        """[N] word of each token over the whole input, -1 for special tokens."""
        row = self.row(number)
        return units_of([row], len(row["input_ids"]), {"word"})["word_ids"][0]

    def attention(self, number: int) -> list[Tensor]:
        """Attention [H, N, N] of each layer for one text; that of the last few texts is kept."""
        row = self.row(number)
        with self.lock:
            if number not in self._attention:
                inputs = self.reopened.inputs([row])
                self._attention[number] = [each[0].cpu() for each in self.explainer.adapter.attentions(inputs)]
            self._attention[number] = found = self._attention.pop(number)  # the latest comes last
            while len(self._attention) > KEPT_DOCUMENTS:
                del self._attention[next(iter(self._attention))]
            return found


def half(values: Tensor) -> bytes:
    """Numbers as little-endian float16, row after row."""
    data: bytes = values.to(torch.float16).contiguous().numpy().astype("<f2").tobytes()
    return data


def _title(row: Row) -> str:
    text = " / ".join(part for part in (row["text"], row["text_b"]) if part)
    return text if len(text) <= TITLE else f"{text[: TITLE - 1]}\u2026"
