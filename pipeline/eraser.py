"""Explanations of a run in the format of the ERASER benchmark (DeYoung et al. 2020), which its `metrics.py` scores.

A folder with the texts (`docs.jsonl`), what people marked (`SPLIT.jsonl`), and what each method says (`results`).
Tokens are what stands between white space; the score of one is the sum of those of its pieces. Of a pair each text is a
document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attribution.errors import InputError
from evaluation.faithfulness import ERASER_LEVELS
from pipeline.files import write_atomically
from pipeline.runs import Run

Row = Mapping[str, Any]
Floats = NDArray[np.float64]
Spans = list[tuple[int, int]]  # of tokens, the last one not included

SPLITS = ("train", "val", "test")
SECOND = "-b"  # behind the id of the second text of a pair
FAMILIES = ("comprehensiveness", "sufficiency")  # of curves, and what ERASER calls them
SHARE = 0.2  # of a document that is a hard rationale where nobody marked anything; and the level of the plain scores


@dataclass(frozen=True)
class Document:
    """One text of an example: the characters of its tokens, and which of the model's tokens lie in it, and where."""

    id: str
    spans: Spans  # of characters
    places: list[int]
    offsets: Spans
    text: str

    @cached_property
    def words(self) -> list[str]:
        """The tokens; the reader of ERASER takes an empty text for one empty token."""
        return [self.text[start:end] for start, end in self.spans] or [""]

    def shared(self, values: Floats) -> Floats:
        """What the tokens have of values [N] of the model's: each goes to the token that it begins in."""
        found = np.zeros(len(self.words))
        ends = [end for _, end in self.spans]
        for place, (start, end) in zip(self.places, self.offsets, strict=True):
            begin = start + len(self.text[start:end]) - len(self.text[start:end].lstrip())
            word = int(np.searchsorted(ends, begin, side="right"))
            found[min(word, len(found) - 1)] += values[place]
        return found

    def marked(self, marks: Sequence[bool]) -> list[bool]:
        """Which of the tokens are marked: at least half of their characters."""
        covered = np.zeros(len(self.text) + 1, dtype=bool)
        for place, (start, end) in zip(self.places, self.offsets, strict=True):
            covered[start:end] |= bool(marks[place])
        return [bool(covered[start:end].mean() >= 0.5) for start, end in self.spans] or [False]


def documents(row: Row) -> list[Document]:
    """The texts of an example."""
    found = []
    for field, (text, suffix) in enumerate(((row["text"], ""), (row["text_b"], SECOND))):
        if text is not None:
            places = [place for place, own in enumerate(row["field_ids"]) if own == field]
            offsets = [(row["offsets"][place]["start"], row["offsets"][place]["end"]) for place in places]
            spans = [match.span() for match in re.finditer(r"\S+", text)]
            found.append(Document(f"{row['item_id']}{suffix}", spans, places, offsets, text))
    return found


def runs_of(marks: Sequence[bool]) -> Spans:
    """Where neighbours are marked, as spans."""
    edges = np.flatnonzero(np.diff([False, *marks, False])).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


@dataclass(frozen=True)
class Eraser:
    """What a run has to say in that format."""

    run: Run

    @cached_property
    def examples(self) -> dict[str, Row]:
        """By item id."""
        return {row["item_id"]: row for row in self.run.table("examples").to_pylist()}

    @cached_property
    def texts(self) -> dict[str, list[Document]]:
        """Of each example."""
        return {item: documents(row) for item, row in self.examples.items()}

    @cached_property
    def predictions(self) -> dict[str, Row]:
        """By item id."""
        return {row["item_id"]: row for row in self.run.table("predictions").to_pylist()}

    @cached_property
    def labels(self) -> dict[int, str]:
        """Names of the classes. InputError for a run of any other model."""
        model = self.run.manifest["model"]
        if model["task"] != "classification":
            raise InputError(f"run error: {self.run.folder} explains {model['task']}; ERASER's format is for classes.")
        return {int(index): str(name) for index, name in model["labels"].items()}

    @cached_property
    def marks(self) -> dict[str, list[list[bool]]]:
        """What people marked, by item id and document; of texts with marks alone."""
        return {
            item: [text.marked(row["rationale"]) for text in self.texts[item]]
            for item, row in self.examples.items()
            if row["rationale"] is not None and any(row["rationale"])
        }

    @cached_property
    def length(self) -> int | None:
        """Tokens of a hard rationale: what people mark on average; None where nobody did."""
        sizes = [sum(map(sum, own)) for own in self.marks.values()]
        return max(1, round(float(np.mean(sizes)))) if sizes else None

    def docs(self) -> Iterator[Row]:
        """The texts, tokens with a space between them."""
        for texts in self.texts.values():
            yield from ({"docid": text.id, "document": " ".join(text.words)} for text in texts)

    def annotations(self) -> Iterator[Row]:
        """What people say: label and marked tokens, of labelled texts."""
        for item, row in self.examples.items():
            if row["label"] is not None:
                marks = zip(self.texts[item], self.marks.get(item, []), strict=False)
                evidences = [[_evidence(text, *span)] for text, own in marks for span in runs_of(own)]
                about = {"annotation_id": item, "classification": self.labels[row["label"]], "query": ""}
                yield {**about, "evidences": evidences, "query_type": None, "docids": None}

    def results(self, method: str) -> Iterator[Row]:
        """What a method says of each text that it has scores for."""
        curves = self._curves(method)
        for row in self.run.table("attributions").to_pylist():
            if row["method"] == method and row["status"] == "ok":
                yield self._instance(row, curves.get(row["item_id"], {}))

    def _instance(self, row: Row, curves: Mapping[str, Row]) -> Row:
        texts, predicted = self.texts[row["item_id"]], self.predictions[row["item_id"]]
        soft = [text.shared(np.array(row["scores"], dtype=np.float64)) for text in texts]
        hard = self._hard(soft)
        found = {
            "annotation_id": row["item_id"],
            "rationales": [_rationale(*each) for each in zip(texts, soft, hard, strict=True)],
            "classification": self.labels[predicted["predicted"]],
            "classification_scores": self._named(predicted["probabilities"]),
        }
        return {**found, **self._thresholded(row, curves)}

    def _hard(self, soft: Sequence[Floats]) -> list[list[bool]]:
        """The highest tokens of all texts of an example together; equal ones the earlier first."""
        joined = np.concatenate(soft)
        size = self.length or max(1, round(SHARE * len(joined)))
        top = np.zeros(len(joined), dtype=bool)
        top[np.argsort(-joined, kind="stable")[:size]] = True
        return [own.tolist() for own in np.split(top, np.cumsum([len(own) for own in soft])[:-1])]

    def _named(self, probabilities: Sequence[float]) -> dict[str, float]:
        return {self.labels[index]: value for index, value in enumerate(probabilities)}

    def _curves(self, method: str) -> dict[str, dict[str, Row]]:
        """Item id -> family -> row."""
        found: dict[str, dict[str, Row]] = {}
        for row in self.run.table("curves").to_pylist():
            if row["method"] == method and row["curve"] in FAMILIES:
                found.setdefault(row["item_id"], {})[row["curve"]] = row
        return found

    def _thresholded(self, row: Row, curves: Mapping[str, Row]) -> Row:
        """Class scores without and with the top tokens; of two classes alone, whose curves say what both have."""
        whole = all(len(own["probabilities"]) == len(ERASER_LEVELS) for own in curves.values())
        if len(self.labels) != 2 or len(curves) < len(FAMILIES) or not whole:
            return {}
        scores = {name: [self._both(row["target"], p) for p in curves[name]["probabilities"]] for name in FAMILIES}
        listed = [
            {"threshold": level, **{f"{name}_classification_scores": own[place] for name, own in scores.items()}}
            for place, level in enumerate(ERASER_LEVELS)
        ]
        plain = next(each for each in listed if each["threshold"] == SHARE)
        return {"thresholded_scores": listed, **{key: value for key, value in plain.items() if key != "threshold"}}

    def _both(self, target: int, probability: float) -> dict[str, float]:
        own = [1 - probability, 1 - probability]
        own[target] = probability
        return self._named(own)


def _evidence(text: Document, start: int, end: int) -> Row:
    words = " ".join(text.words[start:end])
    about = {"docid": text.id, "text": words, "start_token": start, "end_token": end}
    return {**about, "start_sentence": -1, "end_sentence": -1}


def _rationale(text: Document, soft: Floats, hard: Sequence[bool]) -> Row:
    spans = [{"start_token": start, "end_token": end} for start, end in runs_of(hard)]
    return {"docid": text.id, "hard_rationale_predictions": spans, "soft_rationale_predictions": soft.tolist()}


def export_eraser(run: Run, folder: Path, methods: Sequence[str] = ()) -> list[Path]:
    """Write a run, or some of its methods, into a folder; returns the files."""
    known = list(run.manifest.get("methods") or {})
    for method in methods:
        if method not in known:
            raise InputError(f"run error: method={method} is not in {run.folder}; it has {', '.join(known)}.")
    eraser, split = Eraser(run), (run.manifest.get("dataset") or {}).get("split")
    files = {folder / "docs.jsonl": eraser.docs()}
    if any(row["label"] is not None for row in eraser.examples.values()):
        files[folder / f"{split if split in SPLITS else 'test'}.jsonl"] = eraser.annotations()
    files |= {folder / "results" / f"{method}.jsonl": eraser.results(method) for method in methods or known}
    for path, rows in files.items():
        write_atomically(path, _lines(rows))
    return list(files)


def _lines(rows: Iterable[Row]) -> bytes:
    return "".join(json.dumps(row, sort_keys=True, allow_nan=False) + "\n" for row in rows).encode()
