"""The heads that a search found: the counts of all its chunks added up, and the scores they give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from pipeline.stages.identify_heads import STAGE, Count, count_table, counts_of
from pipeline.store import Store
from pipeline.worker import Recent


def found_heads(
    config: HeadsConfig, counts: Sequence[Count], tables: Mapping[str, pa.Table], shape: Shape
) -> HeadScores:
    """The heads of a search, from its count tables by key, in a model of this shape (layers, heads)."""

    def total(kind: str, split: str, read: Callable[[pa.Table, Shape], Any]) -> Any:
        found = [read(tables[each.key], shape) for each in counts if (each.kind, each.split) == (kind, split)]
        return reduce(add, found) if found else None

    positional = positional_scores(
        total("positional", "select", offset_counts),
        threshold=config.positional_threshold,
        denominator=config.positional_denominator,
    )
    syntactic = syntactic_scores(
        total("syntactic", "select", arc_counts),
        total("syntactic", "report", arc_counts),
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
