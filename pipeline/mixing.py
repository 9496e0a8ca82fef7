"""What token-to-token methods and probes found of masked words: from the store to the tables of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from evaluation.context_mixing import (
    average_precision,
    chance_average_precision,
    chance_dot_product,
    dot_product,
)
from evaluation.statistics import bootstrap_columns
from pipeline.config import EvaluationConfig
from pipeline.microbatch import padded
from pipeline.schemas import ALIGNMENT_MEANS, ALIGNMENTS, PROBES, PROFILES

METRICS = ("dot_product", "average_precision")
VIEWS = {"layer": "rows", "rollout": "rollouts"}  # view -> its column in the store
ALL, CHANCE = "all", "chance"
AT_ONCE = 4096  # rows of scores whose rankings are compared at the same time

Floats = NDArray[np.float64]
Case = tuple[str, str, int]  # method, view, layer


@dataclass
class Mixed:
    """Of a run with masked words: maps by label, in the order of the examples that have them, and probes."""

    maps: dict[str, pa.Table] = field(default_factory=dict)
    probes: pa.Table = field(default_factory=PROBES.empty_table)

    def tables(self, examples: pa.Table, config: EvaluationConfig) -> dict[str, pa.Table]:
        """The tables of the run; none where nothing was asked for."""
        found: dict[str, pa.Table] = {}
        if self.maps:
            found["alignments"] = alignments(self.maps, examples)
            found["alignment_means"] = alignment_means(found["alignments"], examples, config)
        if self.probes.num_rows:
            found["probes"] = self.probes
        if len(found) == 3:
            found["profiles"] = profiles(found["alignment_means"], self.probes)
        return found


def alignments(maps: Mapping[str, pa.Table], examples: pa.Table) -> pa.Table:
    """Both metrics of every example, method, view and layer."""
    rows = {row["item_id"]: row for row in examples.select(["item_id", "group", "rationale"]).to_pylist()}
    parts = [part for label, table in maps.items() for view in VIEWS for part in _aligned(label, view, table, rows)]
    return pa.concat_tables(parts)


def _aligned(label: str, view: str, table: pa.Table, rows: Mapping[str, Mapping[str, Any]]) -> Iterator[pa.Table]:
    """A table for each layer."""
    chosen = [rows[item] for item in table["item_id"].to_pylist()]
    lengths = [len(row["rationale"]) for row in chosen]
    cues = torch.from_numpy(padded([row["rationale"] for row in chosen], max(lengths), 0)).bool()
    visible = torch.from_numpy(padded([[1] * n for n in lengths], max(lengths), 0))
    flat = table[VIEWS[view]].to_pylist()
    for layer in range(table["layers"][0].as_py()):
        scores = torch.zeros(cues.shape, dtype=torch.float64)
        for i, n in enumerate(lengths):
            scores[i, :n] = torch.tensor(flat[i][layer * n : (layer + 1) * n], dtype=torch.float64)
        chunks = list(zip(*(torch.split(each, AT_ONCE) for each in (scores, cues, visible)), strict=True))
        values = [
            torch.cat([metric(*chunk) for chunk in chunks]).numpy() for metric in (dot_product, average_precision)
        ]
        about = {"method": [label] * len(flat), "item_id": table["item_id"], "view": [view] * len(flat)}
        about |= {"group": [row["group"] for row in chosen], "layer": [layer + 1] * len(flat)}
        measured = dict(zip(METRICS, values, strict=True))
        yield pa.table({name: {**about, **measured}[name] for name in ALIGNMENTS.names}, schema=ALIGNMENTS)


def alignment_means(found: pa.Table, examples: pa.Table, config: EvaluationConfig) -> pa.Table:
    """Means with intervals by paradigm, and of all together; beside them what chance reaches."""
    items = list(dict.fromkeys(found["item_id"].to_pylist()))
    cases, values = _matrix(found, items)
    known = {row["item_id"]: row for row in examples.select(["item_id", "group", "rationale"]).to_pylist()}
    groups = np.array([known[item]["group"] for item in items])
    chance = _chance([known[item]["rationale"] for item in items])
    rows: list[dict[str, Any]] = []
    for group in [ALL, *sorted(set(groups.tolist()))]:
        own = np.ones(len(items), dtype=bool) if group == ALL else groups == group
        for metric in METRICS:
            columns = np.column_stack((chance[metric][own], values[metric][own]))
            for case, interval in zip([(CHANCE, "layer", 0), *cases], _intervals(columns, config), strict=True):
                about = dict(zip(("method", "view", "layer"), case, strict=True))
                rows.append({"group": group, "metric": metric, **about, **interval})
    return pa.Table.from_pylist(rows, schema=ALIGNMENT_MEANS)


def _matrix(found: pa.Table, items: Sequence[str]) -> tuple[list[Case], dict[str, Floats]]:
    """The cases, and of each metric values [items, cases]."""
    place = {item: i for i, item in enumerate(items)}
    names = [found[name].to_pylist() for name in ("method", "view", "layer")]
    keys: list[Case] = list(zip(*names, strict=True))
    cases = list(dict.fromkeys(keys))
    column = {case: i for i, case in enumerate(cases)}
    at = np.array([place[item] for item in found["item_id"].to_pylist()]), np.array([column[key] for key in keys])
    values = {}
    for metric in METRICS:
        values[metric] = np.full((len(items), len(cases)), np.nan)
        values[metric][at] = found[metric].to_numpy()
    return cases, values


def _chance(cues: Sequence[Sequence[bool]]) -> dict[str, Floats]:
    counts, lengths = torch.tensor([sum(row) for row in cues]), torch.tensor([len(row) for row in cues])
    expected = chance_dot_product(counts, lengths), chance_average_precision(counts, lengths)
    return {metric: values.numpy() for metric, values in zip(METRICS, expected, strict=True)}


def _intervals(values: Floats, config: EvaluationConfig) -> list[dict[str, Any]]:
    """Of each column of values [n, m] mean and percentile bootstrap interval, all columns of the same resamples."""
    weights = (~np.isnan(values)).astype(np.float64)
    counts = weights.sum(0)
    total = np.where(weights > 0, values, 0.0).sum(0)
    means = np.divide(total, counts, out=np.full_like(total, np.nan), where=counts > 0)
    drawn = bootstrap_columns(values, weights, samples=config.bootstrap_samples, seed=config.seed)
    low, high = np.nanquantile(drawn, [(1 - config.confidence) / 2, (1 + config.confidence) / 2], axis=0)
    numbers = zip(means, low, high, counts.astype(int), (len(values) - counts).astype(int), strict=True)
    names = ("value", "low", "high", "n", "n_undefined")
    return [{name: each.item() for name, each in zip(names, row, strict=True)} for row in numbers]


def profiles(means: pa.Table, probes: pa.Table) -> pa.Table:
    """Rank correlation over the layers between each method's alignment and the compression of the probes."""
    from scipy.stats import spearmanr  # type: ignore[import-untyped]

    codes: dict[str, dict[int, float]] = {}
    for row in probes.to_pylist():
        codes.setdefault(row["form"], {})[row["layer"]] = row["compression"]
    curves: dict[tuple[str, str, str], dict[int, float]] = {}
    for row in means.to_pylist():
        if row["group"] == ALL and row["method"] != CHANCE:
            curves.setdefault((row["method"], row["view"], row["metric"]), {})[row["layer"]] = row["value"]
    rows = []
    for (method, view, metric), curve in curves.items():
        for form, code in codes.items():
            layers = sorted(set(curve) & set(code))
            pair = [[values[layer] for layer in layers] for values in (curve, code)]
            varied = len(layers) > 1 and all(len(set(values)) > 1 for values in pair)
            about = {"method": method, "view": view, "metric": metric, "form": form, "layers": len(layers)}
            rows.append({**about, "spearman": float(spearmanr(*pair).statistic) if varied else np.nan})
    return pa.Table.from_pylist(rows, schema=PROFILES)
