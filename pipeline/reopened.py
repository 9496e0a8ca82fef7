"""The model of a finished run, loaded once more, and its examples as the model reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attribution.explainer import Explainer
from attribution.model.inputs import Inputs
from pipeline.config import ModelConfig
from pipeline.microbatch import inputs_of, units_of
from pipeline.models import ResolvedModel, resolve_model
from pipeline.runs import Run
from pipeline.stages.asked import target_of, without_separators
from pipeline.stages.load_model import choices, predictions

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Reopened:
    """A run with its model."""

    run: Run

    @cached_property
    def model(self) -> ResolvedModel:
        """Where the run's model is on this machine; InputError where it is no longer there."""
        config = self.run.config
        return resolve_model(ModelConfig(**config["model"]), Path(config["paths"]["models"]))

    @property
    def dtype(self) -> str:
        """In which the run computed."""
        return str(self.run.config["model"]["dtype"])

    @cached_property
    def explainer(self) -> Explainer:
        """The model, in the precision of the run."""
        head = None if self.model.lm_head is None else self.model.lm_head.folder
        return Explainer.from_pretrained(self.model.folder, dtype=getattr(torch, self.dtype), lm_head=head)

    def inputs(self, rows: Sequence[Row], length: int | None = None) -> Inputs:
        """Rows of the examples table as the run gave them to the model, [B, length] or as long as the longest."""
        width = max(len(row["input_ids"]) for row in rows) if length is None else length
        segment_ids = self.run.config["explain"]["segment_ids"]
        return inputs_of(rows, width, self.explainer.adapter.pad_id or 0, segment_ids=segment_ids)

    def predicted(self, explainer: Explainer, rows: Sequence[Row], length: int | None = None) -> dict[str, Any]:
        """Columns of the predictions table for these rows; `explainer`: that of the run, or of a changed model."""
        inputs = self.inputs(rows, length)
        return predictions(explainer, inputs) if rows[0]["masked"] is None else choices(explainer, inputs, rows)

    def scores(self, explainer: Explainer, row: Row, target: tuple[int, int | None], method: Row) -> Tensor:
        """Scores [N] of one example as a run computes them, for a class, or the first and last token of an answer."""
        inputs, explain = self.inputs([row]), self.run.config["explain"]
        if explain["hide_separators"]:
            inputs = without_separators(inputs, explainer.tokenizer)
        asked: Any = (target[0],) if target[1] is None else (target,)
        return explainer.scores_many(
            inputs.input_ids,
            inputs.attention_mask,
            methods={"": method},
            target=target_of([row], asked),
            token_type_ids=inputs.token_type_ids,
            output=explain["output"],
            **units_of([row], len(row["input_ids"]), {str(method.get("unit"))}),
        )[""][0]


def as_it_ran(entry: Row) -> dict[str, Any]:
    """A method of the manifest with its parameters, its head mask and layer as what their names came to."""
    found = {name: entry[name] for name in ("head_mask", "layer") if name in entry}
    return {"method": entry["method"], **(entry.get("params") or {}), **found}
