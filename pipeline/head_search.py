"""The heads that a search found: the counts of all its chunks added up, and the scores they give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import Any

import pyarrow as pa

from attribution.explainer import Explainer
from attribution.heads import HeadScores, merge
from attribution.heads.positional import positional_scores
from attribution.heads.syntactic import syntactic_scores
from pipeline.config import HeadsConfig
from pipeline.counts import Shape, arc_counts, offset_counts
from pipeline.keys import digest, source_digest, versions
from pipeline.stages.identify_heads import SPLITS, STAGE, Count, count_table, counts_of
from pipeline.store import Store
from pipeline.worker import Recent


def found_heads(
    config: HeadsConfig, counts: Sequence[Count], tables: Mapping[str, pa.Table], shape: Shape
) -> HeadScores:
    """The heads of a search, from its count tables by key, in a model of this shape (layers, heads)."""

    def found(kind: str, split: str) -> list[pa.Table]:
        return [tables[count.key] for count in counts if (count.kind, count.split) == (kind, split)]

    offsets = [offset_counts(table, shape) for table in found("positional", "select")]
    select, report = (
        [arc_counts(table, shape) for table in found("syntactic", split)] for split in SPLITS["syntactic"]
    )
    positional = positional_scores(
        reduce(add, offsets), threshold=config.positional_threshold, denominator=config.positional_denominator
    )
    syntactic = syntactic_scores(
        reduce(add, select),
        reduce(add, report) if report else None,
        relations=config.relations,
        margin=config.margin,
        thresholds=config.thresholds,
    )
    return merge(positional, syntactic)


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
            table = count_table(explainer, count, sentences.get(count.corpus, count.corpus.read))
            store.put(count.key, table, STAGE)
        tables[count.key] = table
    adapter = explainer.adapter
    return found_heads(config, counts, tables, (adapter.n_layers, adapter.n_heads))


def _weights(explainer: Explainer) -> list[tuple[str, Any]]:
    return sorted(explainer.model.state_dict().items())


def _key(model: Mapping[str, Any], **content: Any) -> str:
    return digest({**model, **content})
