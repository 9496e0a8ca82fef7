"""Whether two runs may be compared, and their values side by side. Nothing here reads or writes a file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.compose import NOT_RESULTS
from pipeline.config import GROUPS, Config
from pipeline.schemas import VALUES

Floats = NDArray[np.float64]
Key = tuple[str, str]  # method, metric
VARY = ("model", "versions", "code")
MODEL, ACCURACY = "(model)", "accuracy"  # the model's own predictions, compared like a method; no label is so spelled
NOT_COMPARED = (*NOT_RESULTS, "name")
_MACHINE = ("hardware", "threads", "executor", "workers")  # of the environment: shows in digits and seconds alone


@dataclass(frozen=True)
class Side:
    """What of a run says whether it can be compared."""

    manifest: Mapping[str, Any]
    config: Mapping[str, Any]
    items: frozenset[str]


@dataclass(frozen=True)
class Departure:
    """Something that differs. `kind`: model, versions, code, data, config, device or machine."""

    kind: str
    key: str
    champion: Any
    candidate: Any
    allowed: bool

    def __str__(self) -> str:
        return f"{self.kind}: {self.key} was {self.champion} and is {self.candidate}"


def departures(champion: Side, candidate: Side, vary: Collection[str]) -> list[Departure]:
    """All that differs. Those not `allowed` make the runs incomparable; differences of the machine only cost digits."""
    allowed = {*vary, "machine"}
    found = [*_config(champion, candidate, vary), *_data(champion, candidate), *_made_by(champion, candidate)]
    return [Departure(kind, key, a, b, kind in allowed) for kind, key, a, b in found if a != b or _unrecorded(key, a)]


def same_digits(found: Collection[Departure]) -> bool:
    """Whether nothing differs that could show in a value: then every value must be the same."""
    return not [departure for departure in found if departure.key not in ("executor", "workers")]


Found = Iterator[tuple[str, str, Any, Any]]  # kind, key, champion's, candidate's


def _unrecorded(key: str, value: Any) -> bool:
    """Runs of before Headlight recorded its code may have been made by any code."""
    return key == "code" and value is None


def _config(champion: Side, candidate: Side, vary: Collection[str]) -> Found:
    """Keys of the configuration; one that came with a newer version counts as its default was at the champion's."""
    old, new = _flat(champion.config), _flat(candidate.config)
    defaults = _defaults() if "code" in vary else {}
    for key in dict.fromkeys([*old, *new]):
        group = key.partition(".")[0]
        if group not in NOT_COMPARED:
            kind, default = "model" if group == "model" else "config", defaults.get(key)
            yield kind, key, old.get(key, default), new.get(key, default)


def _defaults() -> dict[str, Any]:
    return _flat(asdict(Config(**{group: node() for group, node in GROUPS.items()})))


def _data(champion: Side, candidate: Side) -> Found:
    old, new = (side.manifest.get("dataset") or {} for side in (champion, candidate))
    yield "data", "fingerprint", old.get("fingerprint"), new.get("fingerprint")
    only_old, only_new = champion.items - candidate.items, candidate.items - champion.items
    yield "data", "number of examples the candidate lacks", len(only_old), 0
    yield "data", "number of examples the champion lacks", 0, len(only_new)


def _made_by(champion: Side, candidate: Side) -> Found:
    old, new = (side.manifest for side in (champion, candidate))
    for key in ("fingerprint", "labels"):
        yield "model", key, (old.get("model") or {}).get(key), (new.get("model") or {}).get(key)
    was, now = (run.get("environment") or {} for run in (old, new))
    yield "device", "device", was.get("device"), now.get("device")
    yield "code", "code", was.get("code"), now.get("code")
    for key in _MACHINE:
        yield "machine", key, was.get(key), now.get(key)
    versions, others = was.get("versions") or {}, now.get("versions") or {}
    for name in dict.fromkeys([*versions, *others]):
        yield "code" if name == "headlight" else "versions", name, versions.get(name), others.get(name)


def _flat(tree: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys; an empty mapping has none."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


@dataclass(frozen=True)
class Pairs:
    """Values of the same examples in both runs, [n, m]; undefined values are NaN, weights are the champion's."""

    keys: list[Key]
    items: list[str]
    champion: Floats
    candidate: Floats
    weights: Floats

    def only(self, keys: Collection[Key]) -> Pairs:
        """The columns of some keys."""
        chosen = [index for index, key in enumerate(self.keys) if key in keys]
        names = [self.keys[index] for index in chosen]
        return Pairs(names, self.items, self.champion[:, chosen], self.candidate[:, chosen], self.weights[:, chosen])


def pairs_of(champion: pa.Table, candidate: pa.Table) -> Pairs:
    """Two `values` tables side by side: the champion's columns, in the rows of the examples that both have.

    A column the candidate lacks is undefined throughout. A table may repeat nothing: (item, method, metric) is its key.
    """
    items = _in_order(champion["item_id"], within=set(candidate["item_id"].unique().to_pylist()))
    keys = list(dict.fromkeys(zip(champion["method"].to_pylist(), champion["metric"].to_pylist(), strict=True)))
    first, weights = _matrix(champion, items, keys)
    second, _ = _matrix(candidate, items, keys)
    return Pairs(keys, items, first, second, weights)


def _in_order(column: pa.ChunkedArray, within: set[str]) -> list[str]:
    return [item for item in column.unique().to_pylist() if item in within]


def _matrix(table: pa.Table, items: list[str], keys: list[Key]) -> tuple[Floats, Floats]:
    """Values and weights [n, m]; NaN and 0 where the table has no row."""
    row, column = {item: i for i, item in enumerate(items)}, {key: j for j, key in enumerate(keys)}
    values, weights = np.full((len(items), len(keys)), np.nan), np.zeros((len(items), len(keys)))
    for item, method, metric, value, weight in zip(*(table[name].to_pylist() for name in VALUES.names), strict=True):
        if item in row and (method, metric) in column:
            cell = row[item], column[method, metric]
            values[cell], weights[cell] = (np.nan if value is None else value), weight
    return values, weights


def with_accuracy(values: pa.Table, examples: pa.Table, predictions: pa.Table) -> pa.Table:
    """The `values` table and, for a classifier on labelled data, whether each prediction is right."""
    if not predictions.num_rows or predictions["predicted_end"].null_count < predictions.num_rows:
        return values
    labels = dict(zip(examples["item_id"].to_pylist(), examples["label"].to_pylist(), strict=True))
    items = predictions["item_id"].to_pylist()
    gold = pa.array([labels.get(item) for item in items], pa.int32())
    if gold.null_count:
        return values
    right = pc.equal(gold, predictions["predicted"].combine_chunks()).cast(pa.float64())
    columns = {"item_id": items, "method": [MODEL] * len(items), "metric": [ACCURACY] * len(items), "value": right}
    return pa.concat_tables([values, pa.table(columns | {"weight": [1.0] * len(items)}, schema=VALUES)])
