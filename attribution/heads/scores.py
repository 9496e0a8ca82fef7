"""What is known of a model's attention heads: role by role a score, an interval, and whether it was selected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import isnan
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from attribution.errors import InputError
from attribution.heads.intervals import wilson
from attribution.heads.roles import is_share, kinds_of, select_roles

HEADS = pa.schema(
    [
        ("role", pa.string()),
        ("layer", pa.int32()),
        ("head", pa.int32()),
        ("score", pa.float32()),
        ("report_score", pa.float32()),  # null where there is no report split
        ("baseline", pa.float32()),  # null for positional roles, whose threshold is absolute
        ("low", pa.float32()),
        ("high", pa.float32()),
        ("count", pa.int64()),
        ("selected", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class HeadScores:
    """Scores of every head in every role; the mappings have the roles as keys, in the same order.

    `scores` [L, H]: share of `count` rows or arcs in which the head acts so, or mean over `count` texts, on the split
    that selects.
    `baseline`: what the most frequent offset reaches, NaN for positional roles. `report` [L, H]: the score on the
    split that reports, None without one. `skipped`: what was left out while counting, and how much of it.
    `intervals` [L, H, 2]: those of roles whose score is a mean, not a share; others have Wilson's.
    """

    scores: dict[str, Tensor]
    baseline: dict[str, float]
    count: dict[str, int]
    selected: dict[str, Tensor]
    report: dict[str, Tensor | None]
    skipped: Mapping[str, int] = field(default_factory=dict)
    intervals: dict[str, Tensor] = field(default_factory=dict)

    @cached_property
    def interval(self) -> dict[str, Tensor]:
        """95 % interval of each score [L, H, 2]."""
        counted = {role: self.count[role] for role in self.scores if role not in self.intervals}
        return {role: wilson(self.scores[role], n) for role, n in counted.items()} | self.intervals

    @cached_property
    def best(self) -> dict[str, tuple[int, int, float]]:
        """(layer, head, score) of each role's best head."""
        return {role: _best(score) for role, score in self.scores.items()}

    @property
    def shape(self) -> tuple[int, int]:
        """(L, H)."""
        layers, heads = next(iter(self.scores.values())).shape
        return layers, heads

    def kinds(self) -> list[str]:
        """Everything `mask` takes: the roles and their prefixes."""
        return kinds_of(self.scores)

    def mask(self, kinds: str | Iterable[str] | None = None) -> Tensor:
        """The selected heads of these kinds (roles or prefixes such as `positional`; None: all), bool [L, H]."""
        mask = torch.zeros(self.shape, dtype=torch.bool)
        for role in select_roles(list(self.scores), kinds):
            mask |= self.selected[role]
        return mask

    def describe(self, *, selected: bool = False) -> list[str]:
        """A line for each role with a selected head or, unless only these are asked for, a baseline.

        And one for what was left out.
        """
        lines = [self._line(role) for role in self.scores if self.count[role] and self._told(role, selected)]
        left_out = ", ".join(f"{number} {what}" for what, number in self.skipped.items() if number)
        return [*lines, f"left out: {left_out}"] if left_out else lines

    def _told(self, role: str, selected: bool) -> bool:
        return bool(self.selected[role].any()) or not (selected or isnan(self.baseline[role]))

    def _line(self, role: str) -> str:
        layer, head, score = self.best[role]
        low, high = self.interval[role][layer, head].tolist()
        report, baseline = self.report[role], self.baseline[role]
        reported = "" if report is None else f", {report[layer, head]:.3f} on the report split"
        against = "" if baseline != baseline else f", baseline {baseline:.3f}"
        return (
            f"{role}: {int(self.selected[role].sum())} heads; best {layer}.{head} {score:.3f} "
            f"[{low:.3f}, {high:.3f}]{reported}{against}, n={self.count[role]}"
        )

    def to_table(self) -> pa.Table:
        """One row for each role, layer and head."""
        return pa.concat_tables([self._role_table(role) for role in self.scores])

    def _role_table(self, role: str) -> pa.Table:
        layers, heads = self.shape
        report, interval, size = self.report[role], self.interval[role], layers * heads
        columns = [
            [role] * size,
            [layer for layer in range(layers) for _ in range(heads)],
            list(range(heads)) * layers,
            self.scores[role].flatten().tolist(),
            [None] * size if report is None else report.flatten().tolist(),
            [None if self.baseline[role] != self.baseline[role] else self.baseline[role]] * size,
            interval[..., 0].flatten().tolist(),
            interval[..., 1].flatten().tolist(),
            [self.count[role]] * size,
            self.selected[role].flatten().tolist(),
        ]
        return pa.table([pa.array(values, kind) for values, kind in zip(columns, HEADS.types, strict=True)], HEADS)

    @classmethod
    def from_table(cls, table: pa.Table) -> HeadScores:
        """The scores of a table in the HEADS columns; its rows may come in any order."""
        missing = [name for name in HEADS.names if name not in table.column_names]
        if missing:
            raise InputError(f"conf error: heads: the table lacks the columns {', '.join(missing)}.")
        if not len(table):
            raise InputError("conf error: heads: the table has no rows; find heads first.")
        scores = cls({}, {}, {}, {}, {})
        ordered = table.select(HEADS.names).cast(HEADS).sort_by([("layer", "ascending"), ("head", "ascending")])
        for role in table["role"].unique().to_pylist():
            scores._read_role(role, ordered.filter(pc.equal(ordered["role"], role)))
        return scores

    def _read_role(self, role: str, rows: pa.Table) -> None:
        shape = rows["layer"][-1].as_py() + 1, rows["head"][-1].as_py() + 1
        if len(rows) != shape[0] * shape[1]:
            raise InputError(f"conf error: heads: role {role} has {len(rows)} rows for {shape[0]} x {shape[1]} heads.")
        baseline = rows["baseline"][0].as_py()
        self.scores[role] = _tensor(rows["score"], shape)
        self.baseline[role] = float("nan") if baseline is None else baseline
        self.count[role] = rows["count"][0].as_py()
        self.selected[role] = torch.tensor(rows["selected"].to_pylist()).reshape(shape)
        self.report[role] = None if rows["report_score"].null_count else _tensor(rows["report_score"], shape)
        if not is_share(role):
            self.intervals[role] = torch.stack([_tensor(rows[end], shape) for end in ("low", "high")], -1)

    def save(self, path: str | Path) -> None:
        """Write the table as Parquet."""
        pq.write_table(self.to_table(), path)

    @classmethod
    def load(cls, path: str | Path) -> HeadScores:
        """Read what `save`, or a run, wrote. A path that is no such file: InputError."""
        if not Path(path).is_file():
            raise InputError(f"conf error: heads={path} does not exist; give a heads.parquet file or a run.")
        try:
            table = pq.read_table(path)
        except pa.ArrowInvalid as error:
            raise InputError(f"conf error: heads={path} is not a Parquet file.") from error
        return cls.from_table(table)


def merge(first: HeadScores, second: HeadScores) -> HeadScores:
    """Both sets of roles in one, as positional and syntactic heads of the same model are found apart."""
    if first.shape != second.shape:
        raise InputError(f"conf error: heads of different models cannot be joined: {first.shape} and {second.shape}.")
    return HeadScores(
        first.scores | second.scores,
        first.baseline | second.baseline,
        first.count | second.count,
        first.selected | second.selected,
        first.report | second.report,
        {**first.skipped, **second.skipped},
        first.intervals | second.intervals,
    )


def _best(score: Tensor) -> tuple[int, int, float]:
    layer, head = divmod(int(score.argmax()), score.shape[1])
    return layer, head, float(score[layer, head])


def _tensor(column: pa.ChunkedArray, shape: tuple[int, int]) -> Tensor:
    return torch.tensor(column.to_pylist(), dtype=torch.float64).reshape(shape)
