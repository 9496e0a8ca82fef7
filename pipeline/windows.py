"""Windows of long texts are rows like any others on the way; here their results are joined to one for each text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from attribution.loading import read_config
from attribution.windows import Windows, answering
from pipeline.prepare import Prepared
from pipeline.schemas import ATTRIBUTIONS, PREDICTIONS, VALUES, WINDOWS

Row = Mapping[str, Any]


@dataclass(frozen=True)
class WholeTexts:
    """The texts of a run of which some are cut into windows, and what is predicted of each row of the examples."""

    prepared: Prepared
    by_row: pa.Table  # PREDICTIONS, a row for each of the examples

    @cached_property
    def rows(self) -> dict[str, list[str]]:
        """Item ids of the rows of each text, which are all there: one, or its windows in order."""
        found: dict[str, list[str]] = {}
        for row in self.prepared.examples.select(["item_id", "text_id"]).to_pylist():
            found.setdefault(row["text_id"] or row["item_id"], []).append(row["item_id"])
        return found

    @property
    def examples(self) -> pa.Table:
        """The texts, whole."""
        texts = self.prepared.whole
        return texts.filter(pa.array([item in self.rows for item in texts["item_id"].to_pylist()])).combine_chunks()

    @cached_property
    def windows(self) -> dict[str, Windows]:
        """Those of each text that is cut up, by its item id."""
        texts = self.prepared.whole.select(["item_id", "field_ids"]).to_pylist()
        cut = {row["item_id"]: row["field_ids"] for row in texts if self._is_cut(row["item_id"])}
        return {item: Windows.of(fields, *self.prepared.window) for item, fields in cut.items()}

    @cached_property
    def answers(self) -> dict[str, int]:
        """Which window of a text answers its question."""
        if not self.prepared.is_qa:
            return {}
        found = {}
        for item in self.windows:
            own = [self._predicted[row] for row in self.rows[item]]
            positions = torch.tensor([(row["predicted"], row["predicted_end"]) for row in own])
            found[item] = answering(torch.tensor([row["logits"] for row in own]), positions)
        return found

    @cached_property
    def predictions(self) -> pa.Table:
        """One row for each text: the mean of its windows' logits, or the surest answer."""
        own = {item: [self._predicted[row] for row in rows] for item, rows in self.rows.items()}
        joined = [self._prediction(item, found) if self._is_cut(item) else found[0] for item, found in own.items()]
        return pa.Table.from_pylist(joined, schema=PREDICTIONS)

    @property
    def labelled(self) -> tuple[pa.Table, pa.Table]:
        """Texts and what is predicted of them, row by row."""
        return self.examples, self.predictions

    @property
    def explained(self) -> list[Row]:
        """What each row's target is chosen by: what is predicted of its text; answers are those of the window."""
        if self.prepared.is_qa:
            return list(self.by_row.to_pylist())
        of_text = {row["item_id"]: row for row in self.predictions.to_pylist()}
        ids = self.prepared.examples.select(["item_id", "text_id"]).to_pylist()
        return [of_text[row["text_id"] or row["item_id"]] for row in ids]

    def attributions(self, table: pa.Table) -> pa.Table:
        """The attributions of texts, from those of rows; without texts that lack one."""
        by_method: dict[str, dict[str, Row]] = {}
        for row in table.to_pylist():
            by_method.setdefault(row["method"], {})[row["item_id"]] = row
        joined = [
            self._attribution(item, [found[row] for row in rows]) if self._is_cut(item) else found[rows[0]]
            for found in by_method.values()
            for item, rows in self.rows.items()
            if found.keys() >= set(rows)
        ]
        return pa.Table.from_pylist(joined, schema=table.schema)

    def values(self, table: pa.Table) -> pa.Table:
        """Values of texts: the mean over windows by their share of the text, or that of the window that answers."""
        found: dict[tuple[str, str], dict[str, Row]] = {}
        for row in table.to_pylist():
            found.setdefault((row["method"], row["metric"]), {})[row["item_id"]] = row
        joined = []
        for of_item in found.values():
            for item, rows in self.rows.items():
                if item in of_item:
                    joined.append(of_item[item])
                elif of_item.keys() >= set(rows):
                    weights = self._weights(item)
                    values = np.array([of_item[row]["value"] for row in rows])
                    value = float(values[weights > 0] @ weights[weights > 0])
                    joined.append({**of_item[rows[0]], "item_id": item, "value": value})
        return pa.Table.from_pylist(joined, schema=VALUES)

    def table(self) -> pa.Table:
        """Which rows of the curves are windows of which text, and how much of what is joined they make."""
        rows = [
            {"item_id": row, "text_id": item, "window": number, "columns": windows.columns[number], "weight": weight}
            for item, windows in self.windows.items()
            for number, (row, weight) in enumerate(zip(self.rows[item], self._weights(item), strict=True))
        ]
        return pa.Table.from_pylist(rows, schema=WINDOWS)

    @cached_property
    def _predicted(self) -> dict[str, Row]:
        return {row["item_id"]: row for row in self.by_row.to_pylist()}

    @cached_property
    def _independent(self) -> bool:
        config = read_config(self.prepared.model.folder, local_files_only=True)
        return bool(config.problem_type == "multi_label_classification")

    def _is_cut(self, item: str) -> bool:
        return item in self.rows and self.rows[item] != [item]

    def _weights(self, item: str) -> Any:
        """[W] what each window counts."""
        if item in self.answers:
            return np.eye(len(self.rows[item]))[self.answers[item]]
        return self.windows[item].shares.numpy()

    def _prediction(self, item: str, rows: Sequence[Row]) -> Row:
        if item in self.answers:
            row, columns = rows[self.answers[item]], self.windows[item].columns[self.answers[item]]
            ends = {"predicted": columns[row["predicted"]], "predicted_end": columns[row["predicted_end"]]}
            return {**row, "item_id": item, **ends}
        logits = self.windows[item].mean_logits(torch.tensor([row["logits"] for row in rows]))
        probabilities = logits.sigmoid() if self._independent else logits.softmax(0)
        known = {"logits": logits.tolist(), "probabilities": probabilities.tolist()}
        return {"item_id": item, **known, "predicted": int(logits.argmax()), "predicted_end": None}

    def _attribution(self, item: str, rows: Sequence[Row]) -> Row:
        windows = self.windows[item]
        if item in self.answers:
            number = self.answers[item]
            row, columns = rows[number], windows.columns[number]
            ends = {"target": columns[row["target"]], "target_end": columns[row["target_end"]]}
            return {**row, "item_id": item, **ends, "scores": windows.alone(number, _scores(row)).tolist()}
        first = next((row for row in rows if row["status"] != "ok"), rows[0])
        known: dict[str, Any] = dict.fromkeys(ATTRIBUTIONS.names)
        known |= {name: first[name] for name in ("method", "target", "status", "problem")}
        known |= {name: _sum(rows, name) for name in ("forwards", "backwards")}
        if all(row["value"] is not None for row in rows):
            known["value"] = float(self._weights(item) @ np.array([row["value"] for row in rows]))
        return {**known, "item_id": item, "scores": windows.joined([_scores(row) for row in rows]).tolist()}


def _scores(row: Row) -> torch.Tensor:
    return torch.tensor(row["scores"], dtype=torch.float32)


def _sum(rows: Sequence[Row], name: str) -> int | None:
    return None if rows[0][name] is None else sum(row[name] for row in rows)
