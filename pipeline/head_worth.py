"""Importances of heads and the curves of their rankings, put together from microbatches, as tables of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from attribution.heads import HeadScores, Importance
from attribution.heads.importance import HeadValues, as_scores
from evaluation.head_pruning import LEAST_FIRST, MOST_FIRST, PruningCurve, PruningCurves
from evaluation.head_stability import split_half_stability
from pipeline.schemas import PRUNING, RANKINGS

RANDOM = "random"
MEASURES = ("decided", "loss")
Order = tuple[str, str]  # ranking and way; "random" and seed
HALVED = 4  # units without which there are no halves


@dataclass(frozen=True)
class Judged:
    """The importances of a run by label, and the curves of their rankings, all on the run's own examples."""

    importances: dict[str, Importance] = field(default_factory=dict)
    curves: dict[Order, PruningCurve] = field(default_factory=dict)

    @property
    def scores(self) -> HeadScores | None:
        """As roles of heads; None where there are none."""
        return as_scores(self.importances) if self.importances else None

    def tables(self) -> dict[str, pa.Table]:
        """The tables of the run; none where nothing was asked for."""
        found = {"rankings": rankings_table(self)} if self.importances else {}
        return {**found, "pruning": pruning_table(self.curves)} if self.curves else found


def _joined(tables: Sequence[pa.Table], items: Sequence[str]) -> pa.Table:
    """What several microbatches gave in the order of the items, so that resamples do not depend on microbatches.

    With the number of its microbatch in each row; items that could not be computed are left out.
    """
    numbered = [
        table.append_column("batch", pa.array([number] * table.num_rows, pa.int64()))
        for number, table in enumerate(tables)
    ]
    whole = pa.concat_tables(numbered)
    row = {item: place for place, item in enumerate(whole["item_id"].to_pylist())}
    return whole.take([row[item] for item in items if item in row]).combine_chunks()


def values_of(tables: Sequence[pa.Table], items: Sequence[str], shape: tuple[int, int]) -> HeadValues:
    """What several microbatches gave, as of one batch each."""
    whole = _joined(tables, items)
    values = np.array(whole["values"].to_pylist(), dtype=np.float64).reshape(-1, *shape)
    tokens = torch.tensor(whole["tokens"].to_pylist())
    return HeadValues(
        torch.from_numpy(values), tokens, torch.tensor(whole["batch"].to_pylist()), whole["reads_first"][0].as_py()
    )


def curve_of(tables: Sequence[pa.Table], items: Sequence[str]) -> PruningCurve:
    """What several microbatches gave, as one curve."""
    whole = _joined(tables, items)
    loss, decided = (
        torch.tensor(np.array(whole[name].to_pylist(), dtype=np.float64).T) for name in ("loss", "decided")
    )
    return PruningCurve(torch.tensor(whole["removed"][0].as_py()), loss, decided)


def pruning_table(curves: Mapping[Order, PruningCurve]) -> pa.Table:
    """Means over the examples."""
    rows = [
        {"ranking": ranking, "order": order, "removed": removed, "loss": loss, "decided": decided, "n": n}
        for (ranking, order), curve in curves.items()
        for removed, loss, decided, n in _points(curve)
    ]
    return pa.Table.from_pylist(rows, schema=PRUNING)


def _points(curve: PruningCurve) -> Iterator[tuple[int, float, float, int]]:
    means = curve.loss.mean(1).tolist(), curve.decided.mean(1).tolist()
    for removed, loss, decided in zip(curve.removed.tolist(), *means, strict=True):
        yield removed, loss, decided, curve.loss.shape[1]


def rankings_table(judged: Judged) -> pa.Table:
    """Areas against random orders, and agreement of halves of the texts."""
    rows = [row for label in judged.importances for row in _worth(label, judged)]
    return pa.Table.from_pylist(rows, schema=RANKINGS)


def _worth(label: str, judged: Judged) -> Iterator[dict[str, Any]]:
    importance, curves = judged.importances[label], judged.curves
    if len(importance.per_example) >= HALVED:
        for measure, values in vars(split_half_stability(importance)).items():
            low, high = np.nanquantile(values, [0.025, 0.975]).tolist()
            about = {"measure": measure, "order": None, "beaten": None, "n": len(importance.per_example)}
            yield {"ranking": label, **about, "value": float(np.mean(values)), "low": low, "high": high}
    if not curves:
        return
    chance = [curve for (ranking, _), curve in curves.items() if ranking == RANDOM]
    both = PruningCurves(curves[label, LEAST_FIRST], curves[label, MOST_FIRST], chance)
    for measure in MEASURES:
        for way, found in both.against_random(measure).items():
            about = {"ranking": label, "measure": measure, "order": way, "beaten": both.beaten(measure, way)}
            yield {**about, "value": found.value, "low": found.low, "high": found.high, "n": found.n}
