"""The texts with their scores as the page's script needs them, as many as fit."""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.rendering import written
from pipeline.report.shares import token_kind
from pipeline.runs import Run
from pipeline.standing import higher_is_better

BUDGET = 4_000_000  # bytes of a page that texts and scores may take
_FULL, _MISSING = 32767, -32768  # 16-bit scores: 3 significant digits and more; the mark of an undefined one
_LETTERS = "wps"  # kinds of tokens as one letter each: word, punctuation, special

Scores = NDArray[np.float64]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Texts:
    """The examples of a run with all their scores and the value of the leading metric."""

    run: Run
    metric: str | None
    examples: list[Row]
    predictions: dict[str, Row]
    scores: dict[str, dict[str, Scores]] = field(repr=False)  # method -> item id -> [N]
    targets: dict[str, tuple[int, int | None]]
    values: dict[str, dict[str, float]] = field(repr=False)  # method -> item id -> value

    @classmethod
    def of(cls, run: Run, metric: str | None) -> Texts:
        """Read the tables."""
        attributions = run.table("attributions").to_pylist()
        scores: dict[str, dict[str, Scores]] = {}
        for row in attributions:
            scores.setdefault(row["method"], {})[row["item_id"]] = np.array(row["scores"] or [], dtype=np.float64)
        values: dict[str, dict[str, float]] = {}
        for row in run.table("values").to_pylist():
            if row["metric"] == metric:
                values.setdefault(row["method"], {})[row["item_id"]] = row["value"]
        targets = {row["item_id"]: (row["target"], row["target_end"]) for row in attributions}
        predictions = {row["item_id"]: row for row in run.table("predictions").to_pylist()}
        return cls(run, metric, run.table("examples").to_pylist(), predictions, scores, targets, values)

    @cached_property
    def pieces(self) -> list[list[str]]:
        """Tokens of each example as its text spells them."""
        return [pieces_of(row) for row in self.examples]

    @cached_property
    def kinds(self) -> list[NDArray[np.int64]]:
        """Kind of each token (`shares.CONTENT` and so on), by example."""
        return [
            np.array([token_kind(piece, special) for piece, special in zip(pieces, row["special_tokens"], strict=True)])
            for pieces, row in zip(self.pieces, self.examples, strict=True)
        ]

    def of_method(self, method: str) -> tuple[list[Scores], list[NDArray[np.int64]]]:
        """Scores and token kinds of the examples a method has scores for."""
        found = self.scores.get(method, {})
        pairs = [
            (found[row["item_id"]], kind)
            for row, kind in zip(self.examples, self.kinds, strict=True)
            if row["item_id"] in found
        ]
        pairs = [(scores, kind) for scores, kind in pairs if len(scores) == len(kind)]
        return [scores for scores, _ in pairs], [kind for _, kind in pairs]

    def showable(self, texts: str, limit: int) -> Sequence[int]:
        """Rows of the examples that a page may spell out: of `sample` at most `limit`, of `none` not one."""
        if texts == "none":
            return []
        return self.chosen(list(self.scores), limit) if texts == "sample" else range(len(self.examples))

    def chosen(self, methods: Sequence[str], limit: int | None) -> list[int]:
        """Indexes of the examples to show, at most `limit` and BUDGET bytes, in the order of the data set.

        The best and the worst cases of every method come first, so that they are there whatever is left out.
        """
        sizes = [self._size(index, len(methods)) for index in range(len(self.examples))]
        order = dict.fromkeys(itertools.chain(self._extremes(methods), range(len(self.examples))))
        totals = np.cumsum([sizes[index] for index in order])
        fitting = int(np.searchsorted(totals, BUDGET, side="right"))
        return sorted(list(order)[: fitting if limit is None else min(fitting, limit)])

    def payload(self, methods: Sequence[str], chosen: Sequence[int]) -> dict[str, Any]:
        """What the page embeds."""
        model = self.run.manifest.get("model") or {}
        blocks = [self._packed(method, index) for method in methods for index in chosen]
        packed = np.concatenate([block for block, _ in blocks] or [np.zeros(0, np.int16)]).astype("<i2")
        return {
            "methods": list(methods),
            "labels": {str(key): str(name) for key, name in (model.get("labels") or {}).items()},
            "metric": self.metric,
            "higher": self.metric is None or higher_is_better(self.metric) is not False,
            "items": [self._item(index) for index in chosen],
            "values": [[self._value(method, index) for index in chosen] for method in methods],
            "scales": [scale for _, scale in blocks],
            "base64": base64.b64encode(packed.tobytes()).decode("ascii"),
        }

    def _extremes(self, methods: Sequence[str]) -> Iterator[int]:
        """Best and worst of each method, second best and second worst, and so on."""
        orders = [order for method in methods if (order := self._order(method))]
        for rank in range(max((len(order) for order in orders), default=0)):
            for order in orders:
                if rank < len(order):
                    yield order[rank]
                    yield order[-1 - rank]

    def _order(self, method: str) -> list[int]:
        values = [(self._value(method, index), index) for index in range(len(self.examples))]
        sign = 1 if self.metric and higher_is_better(self.metric) is False else -1
        return [index for value, index in sorted((sign * value, index) for value, index in values if value is not None)]

    def _value(self, method: str, index: int) -> float | None:
        value = self.values.get(method, {}).get(self.examples[index]["item_id"])
        return None if value is None else _rounded(value)

    def _size(self, index: int, methods: int) -> int:
        """Bytes an example takes in the page, about."""
        pieces = self.pieces[index]
        return sum(len(piece.encode()) + 4 for piece in pieces) + methods * (3 * len(pieces) + 16) + 120

    def _packed(self, method: str, index: int) -> tuple[NDArray[np.int16], float]:
        """Scores as 16-bit integers and the value of the largest of them."""
        n = len(self.pieces[index])
        scores = self.scores.get(method, {}).get(self.examples[index]["item_id"])
        if scores is None or len(scores) != n or not np.isfinite(scores).all():
            return np.full(n, _MISSING, dtype=np.int16), 0.0
        largest = float(np.abs(scores).max(initial=0.0))
        return np.round(scores / (largest or 1.0) * _FULL).astype(np.int16), _rounded(largest) or 0.0

    def _item(self, index: int) -> dict[str, Any]:
        row = self.examples[index]
        predicted = self.predictions.get(row["item_id"]) or {}
        item = {
            "i": row["row_index"],
            "t": self.pieces[index],
            "k": "".join(_LETTERS[kind] for kind in self.kinds[index]),
            "j": _joined(row),
            "b": next((i for i, name in enumerate(row["field_ids"]) if name == 1), None),
            "y": row["label_name"],
            "l": row["label"],
            "p": predicted.get("predicted"),
            "e": predicted.get("predicted_end"),
            "q": [_rounded(value) for value in predicted.get("probabilities") or []],
            "x": self.targets.get(row["item_id"], (None, None))[0],
            "g": None if row["answer_start"] is None else [row["answer_start"], row["answer_end"]],
            "r": None if row["rationale"] is None else "".join("01"[mark] for mark in row["rationale"]),
            "c": row["truncated"] or None,
        }
        return {key: value for key, value in item.items() if value is not None}


def pieces_of(row: Row) -> list[str]:
    """Tokens of an example as its text spells them, each with the white space before it."""
    fields = {0: row["text"], 1: row["text_b"]}
    texts = [
        None if special else fields.get(name)
        for special, name in zip(row["special_tokens"], row["field_ids"], strict=True)
    ]
    return written(row["tokens"], [(span["start"], span["end"]) for span in row["offsets"]], texts)


def _joined(row: Row) -> str:
    """1 where a token goes on with the word of the token before it."""
    keys = list(zip(row["field_ids"], row["word_ids"], strict=True))
    return "0" * bool(keys) + "".join(
        "01"[a == b and b[1] is not None and b[1] >= 0] for a, b in itertools.pairwise(keys)
    )


def _rounded(value: float) -> float | None:
    """Three significant digits; None where undefined."""
    return float(f"{value:.3g}") if math.isfinite(value) else None
