"""Rows of the tables of perturbed inputs as tensors: what metrics are computed from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from attribution.methods.units import Units
from evaluation import CURVES, METRICS, Curves
from evaluation.removals import Removals
from evaluation.resampling import RESAMPLE, Resampler
from pipeline.microbatch import padded
from pipeline.schemas import OF_LEVELS

ROWS = 64  # of removed sets that are made dense at a time


@dataclass(frozen=True)
class Perturbed:
    """What a run found of perturbed inputs, and the attributions of the rows that were perturbed."""

    curves: pa.Table
    removals: pa.Table
    attributions: pa.Table

    def curves_of(self, label: str, family: str) -> pa.Table:
        """Rows of one curve family of one method."""
        return self.curves.filter((pc.field("method") == label) & (pc.field("curve") == family))

    def sets_of(self, sets: str) -> pa.Table:
        """Rows of one kind of removed sets."""
        return self.removals.filter(pc.field("sets") == sets)

    def forwards_alone(self, labels: Sequence[str], metrics: Sequence[str]) -> int:
        """Forwards of every method and metric by itself, the intact text of each included."""
        sources = {source for metric in metrics for source in METRICS[metric].prepared.values()}
        removed = {name: _copies(self.sets_of(name), "groups") for name in sources - CURVES.keys()}
        found = 0
        for label in labels:
            own = {name: _copies(self.curves_of(label, name), "counts") for name in sources & CURVES.keys()} | removed
            for metric in metrics:
                counts = [own[source] for source in METRICS[metric].prepared.values()]
                found += sum(copies for _, copies in counts) + max((rows for rows, _ in counts), default=0)
        return found


def _copies(table: pa.Table, column: str) -> tuple[int, int]:
    """Rows, and copies of them; each is resampled several times where tokens are drawn."""
    draws = Resampler.draws if table.num_rows and table["operator"][0].as_py() == RESAMPLE else 1
    return table.num_rows, draws * (pc.sum(pc.list_value_length(table[column])).as_py() or 0)


def chunks_of(table: pa.Table) -> Iterator[pa.Table]:
    """A few rows after the other."""
    return (table.slice(start, ROWS) for start in range(0, table.num_rows, ROWS))


def curves_of(table: pa.Table) -> Curves:
    """Rows of the curves table as tensors: of the target alone, C = 1, or of start and end, C = 2."""
    intact = _matrix(table["intact_logit"])
    ends = intact.shape[1]
    counts = _matrix(table["counts"])
    shape = (*counts.shape, ends)
    target = torch.zeros(len(counts), dtype=torch.long) if ends == 1 else _columns(table, "target", "target_end")
    return Curves(
        counts=counts.long(),
        levels=_matrix(table["levels"]),
        logits=_matrix(table["logits"]).view(shape),
        log_probabilities=_matrix(table["probabilities"]).log().view(shape),
        intact_logits=intact,
        intact_log_probabilities=_matrix(table["intact_probability"]).log(),
        target=target,
        operator=table["operator"][0].as_py(),
        keep=CURVES[table["curve"][0].as_py()].keep,
        **_of_levels(table),
        **_decisions(table, ends),
    )


def _of_levels(table: pa.Table) -> dict[str, Any]:
    """What curves keep of all classes together; runs of older versions have not all of it."""
    return {name: _matrix(table[name]) for name in OF_LEVELS if name in table.column_names}


def _decisions(table: pa.Table, ends: int) -> dict[str, Any]:
    """Decisions as `Curves` has them; of classes less the target, which is 0 where there is one probability."""
    if "predicted" not in table.column_names or table["predicted"].null_count:
        return {}
    at, intact = _matrix(table["predicted"]).long(), _matrix(table["intact_predicted"]).long()
    if ends == 2:
        return {"predicted": at.view(len(at), -1, 2), "intact_predicted": intact}
    goal = _columns(table, "target")
    return {"predicted": at - goal, "intact_predicted": (intact - goal)[:, 0]}


def _columns(table: pa.Table, *names: str) -> Tensor:
    """Columns of whole numbers, [n, columns]."""
    return torch.from_numpy(np.stack([table[name].to_numpy() for name in names], 1).astype(np.int64))


def _matrix(column: pa.ChunkedArray) -> Tensor:
    """A column of lists of one length as [n, length]."""
    flat = pc.list_flatten(column).to_numpy()
    return torch.from_numpy(np.array(flat, dtype=np.float64).reshape(len(column), -1))


def removals_of(table: pa.Table, length: int) -> Removals:
    """Rows of the removals table, for scores [B, length]."""
    rows = table.to_pylist()
    units = Units(torch.from_numpy(padded([row["units"] for row in rows], length, -1)))
    intact = _matrix(table["intact_logit"])
    shape = (len(rows), max(len(row["groups"]) for row in rows), units.members.shape[1])
    removed, asked = np.zeros(shape, dtype=bool), np.zeros(shape[:2], dtype=bool)
    groups = np.zeros(shape[:2], dtype=np.int64)
    logits, probabilities = (np.full((*shape[:2], intact.shape[1]), np.nan) for _ in range(2))
    for i, (row, n) in enumerate(zip(rows, units.count.tolist(), strict=True)):
        sets = len(row["groups"])
        asked[i, :sets], groups[i, :sets] = True, row["groups"]
        removed[i, :sets, :n] = np.array(row["removed"], dtype=bool).reshape(sets, n)
        logits[i, :sets], probabilities[i, :sets] = (
            np.array(row[name]).reshape(sets, intact.shape[1]) for name in ("logits", "probabilities")
        )
    return Removals(
        units,
        torch.from_numpy(removed),
        torch.from_numpy(asked),
        group=torch.from_numpy(groups),
        logits=torch.from_numpy(logits),
        log_probabilities=torch.from_numpy(probabilities).log(),
        intact_logits=intact,
        intact_log_probabilities=_matrix(table["intact_probability"]).log(),
        operator=rows[0]["operator"],
    )
