"""Count what every head looks at, in chunks of a treebank or of sentences of the built-in grammar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
from torch import Tensor

from attribution.errors import InputError
from attribution.explainer import Explainer
from attribution.heads.arcs import count_arcs
from attribution.heads.offsets import count_positional
from pipeline.counts import arc_table, offset_table
from pipeline.data.corpora import Corpus, Grammar, Treebank
from pipeline.data.treebanks import Sentence
from pipeline.execution.task import Task
from pipeline.stages.setting import Setting
from pipeline.worker import ModelRef, StageWorker

if TYPE_CHECKING:  # what only the driver reads does not make a result
    from pipeline.config import HeadsConfig

STAGE = "identify_heads"
CHUNK = 256  # sentences of one task, in the order of the treebank
BATCH = 32  # sentences in one pass of the positional count
REPORT_SEED = 1_000_003  # added to the seed of the sentences that report
SPLITS = {"positional": ("select",), "syntactic": ("select", "report")}  # what is counted on, by kind of head


class Count(NamedTuple):
    """One count table to be made: of which sentences, for which kind of head, and under which key."""

    key: str
    kind: str
    split: str
    corpus: Corpus
    rows: tuple[int, int]
    relations: tuple[str, ...]  # none for positional heads


def counts_of(config: HeadsConfig, key_of: Callable[..., str]) -> list[Count]:
    """All counts of a search, in the order of the sentences; none where heads are given. Equal ones have equal keys."""
    if config.source not in CORPORA:
        return []
    corpora = CORPORA[config.source](config)
    return [
        count
        for kind, splits in SPLITS.items()
        for split in splits
        if (corpus := corpora[split]) is not None
        for count in _chunked(kind, split, corpus, config, key_of)
    ]


def _chunked(kind: str, split: str, corpus: Corpus, config: HeadsConfig, key_of: Callable[..., str]) -> Iterator[Count]:
    relations = tuple(sorted(config.relations)) if kind == "syntactic" else ()
    for chunk in corpus.chunks(CHUNK):
        content = chunk.trees if kind == "syntactic" else chunk.texts
        key = key_of(kind=kind, content=content, relations=relations)
        yield Count(key, kind, split, corpus, (chunk.start, chunk.stop), relations)


def _of_grammar(config: HeadsConfig) -> dict[str, Corpus | None]:
    n, seed = config.sentences, config.seed
    return {"select": Grammar(n, seed), "report": Grammar(n, seed + REPORT_SEED)}


def _of_files(config: HeadsConfig) -> dict[str, Corpus | None]:
    paths = {"select": config.select, "report": config.report}
    return {split: Treebank.of(path, config.limit, f"heads.{split}") if path else None for split, path in paths.items()}


CORPORA: dict[str, Callable[[HeadsConfig], dict[str, Corpus | None]]] = {"grammar": _of_grammar, "treebank": _of_files}


def tasks_of(counts: Sequence[Count], setting: Setting) -> list[Task]:
    """A task for each count, one for equal ones."""
    return [_task(count, setting) for count in {count.key: count for count in counts}.values()]


def _task(count: Count, setting: Setting) -> Task:
    payload = {"count": count, "model": setting.model}
    weight = count.rows[1] - count.rows[0]
    return Task(count.key, STAGE, payload, setting.model.fingerprint, weight, results=(count.key,))


def process(*, worker: StageWorker, rows: slice, count: Count, model: ModelRef) -> dict[str, pa.Table]:
    """Count one chunk; it has no rows to be divided into."""
    return {count.key: count_table(worker.explainer(model), count, worker.sentences(count.corpus))}


def count_table(explainer: Explainer, count: Count, sentences: Sequence[Sentence]) -> pa.Table:
    """The table of one count; `sentences` are all of its corpus."""
    chunk = sentences[slice(*count.rows)]
    if count.kind == "positional":
        texts = batches(explainer, [sentence.text for sentence in chunk])
        return offset_table(count_positional(explainer.adapter, texts))
    return arc_table(count_arcs(explainer.adapter, chunk, count.relations))


def batches(explainer: Explainer, texts: Sequence[str]) -> Iterator[Mapping[str, Tensor]]:
    """Texts of similar length together, as the tokenizer returns them."""
    tokenizer = explainer.tokenizer
    if tokenizer is None:
        raise InputError("heads are found on text: the model needs its tokenizer")
    ordered = sorted(texts, key=len)
    limit = explainer.adapter.max_length
    for start in range(0, len(ordered), BATCH):
        yield tokenizer(
            ordered[start : start + BATCH], padding=True, truncation=True, max_length=limit, return_tensors="pt"
        )
