"""Find the heads that matter: positional and syntactic ones, on a treebank or on sentences of the built-in grammar."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from torch import Tensor

from attribution.errors import InputError
from attribution.explainer import Explainer
from attribution.heads import HeadScores, merge, positional_heads, syntactic_heads
from pipeline.config import Config, HeadsConfig
from pipeline.data.treebanks import Sentence, load_treebank
from pipeline.execution.task import Task
from pipeline.keys import digest, file_digest, source_digest, versions
from pipeline.stages.setting import Setting
from pipeline.store import Store
from pipeline.worker import ModelRef, StageWorker

STAGE = "identify_heads"
BATCH = 32  # sentences in one pass
KINDS = ("positional", "syntactic")
REPORT_SEED = 1_000_003  # added to the seed of the sentences that report


def corpus_of(config: HeadsConfig) -> dict[str, Any]:
    """What says which sentences are read: files by their content, the grammar by its numbers."""
    if config.source == "grammar":
        return {"grammar": config.sentences, "seed": config.seed}
    return {"select": _file(config, "select"), "report": _file(config, "report"), "limit": config.limit}


def _file(config: HeadsConfig, which: str) -> dict[str, str] | None:
    path = getattr(config, which)
    if path is None:
        return None
    if not Path(path).is_file():
        raise InputError(f"conf error: heads.{which}={path} is not a file.")
    return {"path": str(Path(path).resolve()), "sha256": file_digest(path)}


def options_of(config: HeadsConfig) -> dict[str, Any]:
    """The parameters of the search."""
    return {
        "relations": list(config.relations),
        "margin": config.margin,
        "thresholds": dict(config.thresholds),
        "positional_threshold": config.positional_threshold,
        "positional_denominator": config.positional_denominator,
    }


def tasks_of(config: Config, setting: Setting) -> Iterator[Task]:
    """One task per kind of head; none where heads are given."""
    if config.heads.source not in ("grammar", "treebank"):
        return
    corpus, options = corpus_of(config.heads), options_of(config.heads)
    for kind in KINDS:
        key = setting.key(STAGE, kind=kind, corpus=_content(corpus), options=options)
        payload = {"key": key, "kind": kind, "corpus": corpus, "options": options, "model": setting.model}
        yield Task(key, STAGE, payload, setting.model.fingerprint, results=(key,))


def _content(corpus: Mapping[str, Any]) -> dict[str, Any]:
    """A corpus without the paths of its files."""
    return {name: value["sha256"] if isinstance(value, dict) else value for name, value in corpus.items()}


def process(
    *,
    worker: StageWorker,
    rows: slice,
    key: str,
    kind: str,
    corpus: dict[str, Any],
    options: dict[str, Any],
    model: ModelRef,
) -> dict[str, pa.Table]:
    """Find one kind of head; a search has no rows to be divided into."""
    return {key: find(worker.explainer(model), kind, corpus, options).to_table()}


def find(explainer: Explainer, kind: str, corpus: Mapping[str, Any], options: Mapping[str, Any]) -> HeadScores:
    """Scores of one kind of head."""
    select, report = sentences(corpus)
    if kind == "positional":
        return positional_heads(
            explainer,
            batches(explainer, [sentence.text for sentence in select]),
            threshold=options["positional_threshold"],
            denominator=options["positional_denominator"],
        )
    return syntactic_heads(
        explainer,
        select,
        report=report,
        relations=tuple(options["relations"]),
        margin=options["margin"],
        thresholds=options["thresholds"] or None,
    )


def sentences(corpus: Mapping[str, Any]) -> tuple[list[Sentence], list[Sentence] | None]:
    """The sentences that select and those that report."""
    if "grammar" in corpus:
        from pipeline.data.grammar import grammar_treebank

        n, seed = corpus["grammar"], corpus["seed"]
        return grammar_treebank(n, seed), grammar_treebank(n, seed + REPORT_SEED)
    select, report = (
        load_treebank(file["path"], corpus["limit"]) if file else None for file in (corpus["select"], corpus["report"])
    )
    return select or [], report


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


def default_heads(explainer: Explainer, root: Path) -> HeadScores:
    """Heads found on the grammar with the default settings, once per model: kept in the store under `root`."""
    config = HeadsConfig()
    weights = [[name, list(value.shape), float(value.double().sum())] for name, value in _weights(explainer)]
    corpus, options = corpus_of(config), options_of(config)
    source = source_digest(["pipeline.stages.identify_heads"])
    key = digest({"weights": weights, "corpus": corpus, "options": options, "source": source, **versions()})
    store = Store(root / "store")
    table = store.get(key, STAGE)
    if table is None:
        table = merge(*(find(explainer, kind, corpus, options) for kind in KINDS)).to_table()
        store.put(key, table, STAGE)
    return HeadScores.from_table(table)


def _weights(explainer: Explainer) -> list[tuple[str, Tensor]]:
    return sorted(explainer.model.state_dict().items())
