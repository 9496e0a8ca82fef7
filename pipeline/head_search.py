"""The heads that a search found: the counts of all its chunks added up, and the scores they give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import Any

import pyarrow as pa

from attribution.explainer import Explainer
from attribution.heads import HeadDistances, HeadScores, merge
from attribution.heads.positional import positional_scores
from attribution.heads.syntactic import syntactic_scores
from attribution.heads.text_roles import role_scores
from pipeline.config import HeadsConfig
from pipeline.counts import Shape, arc_counts, offset_counts
from pipeline.head_sums import distances, role_sums
from pipeline.keys import digest, source_digest, versions
from pipeline.schemas import HEAD_CLUSTERS, HEAD_CONTROLS
from pipeline.stages.identify_heads import ALL, RANDOM, REPORT, SELECT, STAGE, Count, count_table, counts_of
from pipeline.store import Store
from pipeline.worker import Recent

MODEL = "model"  # no control


@dataclass(frozen=True)
class Counted:
    """All counts of a search in a model of this shape (layers, heads), and their tables by key."""

    config: HeadsConfig
    counts: Sequence[Count]
    tables: Mapping[str, pa.Table]
    shape: Shape

    def total(self, kind: str, split: str) -> Any:
        """What was counted of a kind on a split, added up; None where nothing was."""
        read = READ[kind]
        wanted = [count for count in self.counts if (count.kind, count.split) == (kind, split)]
        return reduce(add, (read(self.tables[each.key], self.shape) for each in wanted)) if wanted else None

    def splits(self, kind: str) -> list[str]:
        """The splits and controls of a kind."""
        return list(dict.fromkeys(count.split for count in self.counts if count.kind == kind))

    def scores(self) -> HeadScores:
        """The heads that were found."""
        return reduce(merge, (_scores(self, kind, SELECT) for kind in self.config.roles if kind in SCORES))

    def tables_of_run(self) -> dict[str, pa.Table]:
        """What else was found, as tables of a run; none where it was not asked for."""
        found = {"head_controls": head_controls(self), "head_clusters": head_clusters(self)}
        return {name: table for name, table in found.items() if table.num_rows}


READ: dict[str, Callable[[pa.Table, Shape], Any]] = {
    "positional": offset_counts,
    "syntactic": arc_counts,
    "attention": role_sums,
    "induction": role_sums,
    "distance": distances,
}


def _scores(found: Counted, kind: str, split: str) -> HeadScores:
    """The heads of a kind, selected on a split; what they reach on the report split is told of those of `select`."""
    report = found.total(kind, REPORT) if split == SELECT else None
    return SCORES[kind](found, found.total(kind, split), report)


def _positional(found: Counted, total: Any, report: Any) -> HeadScores:
    config = found.config
    return positional_scores(
        total, report, threshold=config.positional_threshold, denominator=config.positional_denominator
    )


def _syntactic(found: Counted, total: Any, report: Any) -> HeadScores:
    config = found.config
    return syntactic_scores(
        total,
        report,
        relations=total.relations if config.relations == [ALL] else config.relations,
        margin=config.margin,
        thresholds=config.thresholds,
        min_count=config.min_cases,
    )


def _of_texts(kind: str) -> Callable[[Counted, Any, Any], HeadScores]:
    def scores(found: Counted, total: Any, report: Any) -> HeadScores:
        random = [found.total(kind, split) for split in found.splits(kind) if split.startswith(RANDOM)]
        return role_scores(total, report, random)

    return scores


SCORES: dict[str, Callable[[Counted, Any, Any], HeadScores]] = {
    "positional": _positional,
    "syntactic": _syntactic,
    "attention": _of_texts("attention"),
    "induction": _of_texts("induction"),
}


def head_controls(found: Counted) -> pa.Table:
    """How many heads the same search finds where there is nothing to be found, beside what it finds in the model."""
    rows = [
        row
        for kind in found.config.roles
        for split in (found.splits(kind) if kind in SCORES else ())
        if split != REPORT
        for row in _control_rows(split, _scores(found, kind, split))
    ]
    controlled = {row["role"] for row in rows if row["control"] != MODEL}
    return pa.Table.from_pylist([row for row in rows if row["role"] in controlled], schema=HEAD_CONTROLS)


def _control_rows(split: str, scores: HeadScores) -> Iterator[dict[str, Any]]:
    name, _, seed = split.partition(":")
    for role, score in scores.scores.items():
        yield {
            "role": role,
            "control": MODEL if split == SELECT else name,
            "seed": int(seed) if seed else None,
            "selected": int(scores.selected[role].sum()),
            "best": float(score.max()),
            "mean": float(score.mean()),
            "count": scores.count[role],
        }


def head_clusters(found: Counted) -> pa.Table:
    """Which heads attend alike; no rows where that was not asked for."""
    total: HeadDistances | None = found.total("distance", SELECT)
    if total is None:
        return HEAD_CLUSTERS.empty_table()
    layers, heads = found.shape
    plane, cluster = total.coordinates().flatten(0, 1), total.clusters(found.config.clusters).flatten()
    columns = {
        "layer": [layer for layer in range(layers) for _ in range(heads)],
        "head": list(range(heads)) * layers,
        "cluster": cluster.tolist(),
        "x": plane[:, 0].tolist(),
        "y": plane[:, 1].tolist(),
    }
    return pa.table(columns, schema=HEAD_CLUSTERS)


def default_heads(explainer: Explainer, root: Path) -> HeadScores:
    """Heads found on the grammar with the default settings; what was counted is kept in the store under `root`."""
    config, store = HeadsConfig(), Store(root / "store")
    weights = [[name, list(value.shape), float(value.double().sum())] for name, value in _weights(explainer)]
    source = source_digest([f"pipeline.stages.{STAGE}"])
    counts = counts_of(config, partial(_key, {"weights": weights, "source": source, **versions()}))
    sentences: Recent[Any] = Recent(2)
    tables = {}
    for count in counts:
        table = store.get(count.key, STAGE)
        if table is None:
            assert count.corpus is not None, "the default search has sentences"
            table = count_table(explainer, count, sentences.get(count.corpus, count.corpus.read))
            store.put(count.key, table, STAGE)
        tables[count.key] = table
    adapter = explainer.adapter
    return Counted(config, counts, tables, (adapter.n_layers, adapter.n_heads)).scores()


def _weights(explainer: Explainer) -> list[tuple[str, Any]]:
    return sorted(explainer.model.state_dict().items())


def _key(model: Mapping[str, Any], **content: Any) -> str:
    return digest({**model, **content})
