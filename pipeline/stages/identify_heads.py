"""Count what every head looks at, in chunks of a treebank or of sentences of the built-in grammar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import torch
from torch import Tensor

from attribution.errors import InputError
from attribution.explainer import Explainer
from attribution.heads.arcs import count_arcs
from attribution.heads.divergence import head_distances
from attribution.heads.offsets import count_positional
from attribution.heads.syntactic import every_relation
from attribution.heads.text_roles import SEQUENCES, count_induction, count_roles
from evaluation.randomised import random_model
from pipeline.counts import arc_table, offset_table
from pipeline.data.corpora import Chunk, Corpus, Grammar, Shuffled, Source, TextFile, Treebank
from pipeline.data.treebanks import Sentence
from pipeline.execution.task import Task
from pipeline.head_sums import distance_table, role_table
from pipeline.stages.setting import Setting
from pipeline.worker import ModelRef, StageWorker

if TYPE_CHECKING:  # what only the driver reads does not make a result
    from pipeline.config import HeadsConfig

STAGE = "identify_heads"
CHUNK = 256  # sentences of one task, in the order of the treebank
BATCH = 32  # sentences in one pass of the positional count
REPORT_SEED = 1_000_003  # added to the seed of the sentences that report
COMPARED = 128  # sentences on which heads are compared with each other: its cost grows with the square of the heads
ALL = "all"  # relations
SELECT, REPORT, SHUFFLED, RANDOM = "select", "report", "shuffled_trees", "random_model"
CONTROLS = (SHUFFLED, RANDOM)
# What is counted on, by kind of head, and which controls it has.
SPLITS = {
    "positional": (SELECT, REPORT),
    "syntactic": (SELECT, REPORT),
    "attention": (SELECT, REPORT),
    "induction": (SELECT,),
    "distance": (SELECT,),
}
CONTROLLED = {SHUFFLED: ("syntactic",), RANDOM: ("syntactic", "attention", "induction")}


class Count(NamedTuple):
    """One count table to be made: of which sentences, for which kind of head, and under which key."""

    key: str
    kind: str
    split: str  # select, report, shuffled_trees, random_model:SEED
    corpus: Corpus | None  # None where the kind has texts of its own
    rows: tuple[int, int]
    relations: tuple[str, ...]  # of syntactic heads
    seed: int | None = None  # of a random model
    frequencies: TextFile | None = None  # that tell which words are rare


def counts_of(config: HeadsConfig, key_of: Callable[..., str]) -> list[Count]:
    """All counts of a search, in the order of the sentences; none where heads are given. Equal ones have equal keys."""
    if config.source not in CORPORA:
        return []
    corpora = CORPORA[config.source](config)
    return [
        count
        for kind in config.roles
        for split, corpus, seed in _splits(kind, corpora, config)
        for count in _chunked(kind, split, corpus, seed, config, key_of)
    ]


def _splits(
    kind: str, corpora: Mapping[str, Source | None], config: HeadsConfig
) -> Iterator[tuple[str, Corpus, int | None]]:
    """What a kind is counted on: splits, then controls."""
    for split in SPLITS[kind]:
        if (corpus := corpora[split]) is not None:
            yield split, corpus, None
    select = corpora[SELECT]
    assert select is not None, "validated: there is something to select on"
    asked = [control for control in config.controls if kind in CONTROLLED[control]]
    if SHUFFLED in asked:
        yield SHUFFLED, Shuffled(select, config.seed), None
    if RANDOM in asked:
        yield from ((f"{RANDOM}:{seed}", select, seed) for seed in config.random_seeds)


def _chunked(
    kind: str, split: str, corpus: Corpus, seed: int | None, config: HeadsConfig, key_of: Callable[..., str]
) -> Iterator[Count]:
    relations = searched_relations(config) if kind == "syntactic" else ()
    frequencies = TextFile.of(config.frequencies, "heads.frequencies") if kind == "attention" else None
    drawn = {} if seed is None else {"random_model": seed}
    rare = {} if frequencies is None else {"frequencies": frequencies.sha256}
    for chunk in _chunks(kind, corpus):
        content = chunk.trees if kind == "syntactic" else chunk.texts
        key = key_of(kind=kind, content=content, relations=relations, **drawn, **rare)
        read = corpus if kind != "induction" else None
        yield Count(key, kind, split, read, (chunk.start, chunk.stop), relations, seed, frequencies)


def _chunks(kind: str, corpus: Corpus) -> list[Chunk]:
    if kind == "induction":
        return [Chunk(0, SEQUENCES, "random sequences", None)]
    return corpus.chunks(COMPARED)[:1] if kind == "distance" else corpus.chunks(CHUNK)


def searched_relations(config: HeadsConfig) -> tuple[str, ...]:
    """The relations of a search, sorted: those that are named, or all with enough cases where heads are selected."""
    if config.relations != [ALL]:
        return tuple(sorted(config.relations))
    select = CORPORA[config.source](config)[SELECT]
    assert select is not None, "validated: there is something to select on"
    return _every_relation(select, config.min_cases)


@lru_cache(maxsize=8)  # every split and every plan asks again
def _every_relation(corpus: Corpus, min_cases: int) -> tuple[str, ...]:
    found = every_relation(corpus.read(), min_count=min_cases)
    if not found:
        raise InputError(
            f"conf error: heads.relations=[{ALL}]: no relation has heads.min_cases={min_cases} arcs; name relations."
        )
    return tuple(sorted(found))


def _of_grammar(config: HeadsConfig) -> dict[str, Source | None]:
    n, seed = config.sentences, config.seed
    return {SELECT: Grammar(n, seed), REPORT: Grammar(n, seed + REPORT_SEED)}


def _of_files(config: HeadsConfig) -> dict[str, Source | None]:
    paths = {SELECT: config.select, REPORT: config.report}
    return {split: Treebank.of(path, config.limit, f"heads.{split}") if path else None for split, path in paths.items()}


CORPORA: dict[str, Callable[[HeadsConfig], dict[str, Source | None]]] = {"grammar": _of_grammar, "treebank": _of_files}


def tasks_of(counts: Sequence[Count], setting: Setting) -> list[Task]:
    """A task for each count, one for equal ones."""
    return [_task(count, setting) for count in {count.key: count for count in counts}.values()]


def _task(count: Count, setting: Setting) -> Task:
    payload = {"count": count, "model": setting.model}
    weight = count.rows[1] - count.rows[0]
    return Task(count.key, STAGE, payload, setting.model.fingerprint, weight, results=(count.key,))


def process(*, worker: StageWorker, rows: slice, count: Count, model: ModelRef) -> dict[str, pa.Table]:
    """Count one chunk; it has no rows to be divided into."""
    explainer, corpus, texts = worker.explainer(model), count.corpus, count.frequencies
    if count.seed is not None:
        explainer = worker.variant(model, count.seed, partial(random_model, seed=count.seed))
    sentences = [] if corpus is None else worker.kept(corpus, corpus.read)
    often = (
        None
        if texts is None
        else worker.kept((texts, model.fingerprint), lambda: token_frequencies(explainer, texts.read()))
    )
    return {count.key: count_table(explainer, count, sentences, often)}


def count_table(
    explainer: Explainer, count: Count, sentences: Sequence[Sentence], frequencies: Tensor | None = None
) -> pa.Table:
    """The table of one count; `sentences` are all of its corpus."""
    return COUNTING[count.kind](explainer, sentences[slice(*count.rows)], count, frequencies)


def _positional(explainer: Explainer, chunk: Sequence[Sentence], count: Count, frequencies: Tensor | None) -> pa.Table:
    return offset_table(count_positional(explainer.adapter, _texts(explainer, chunk)))


def _syntactic(explainer: Explainer, chunk: Sequence[Sentence], count: Count, frequencies: Tensor | None) -> pa.Table:
    return arc_table(count_arcs(explainer.adapter, chunk, count.relations))


def _attention(explainer: Explainer, chunk: Sequence[Sentence], count: Count, frequencies: Tensor | None) -> pa.Table:
    return role_table(count_roles(explainer.adapter, _texts(explainer, chunk), frequencies=frequencies))


def _induction(explainer: Explainer, chunk: Sequence[Sentence], count: Count, frequencies: Tensor | None) -> pa.Table:
    return role_table(count_induction(explainer.adapter))


def _distance(explainer: Explainer, chunk: Sequence[Sentence], count: Count, frequencies: Tensor | None) -> pa.Table:
    return distance_table(head_distances(explainer, _texts(explainer, chunk)))


COUNTING: dict[str, Callable[[Explainer, Sequence[Sentence], Count, Tensor | None], pa.Table]] = {
    "positional": _positional,
    "syntactic": _syntactic,
    "attention": _attention,
    "induction": _induction,
    "distance": _distance,
}


def token_frequencies(explainer: Explainer, texts: Sequence[str]) -> Tensor:
    """[V] how often each token occurs in these texts, special tokens apart."""
    tokenizer = explainer.tokenizer
    assert tokenizer is not None, "heads are found on text: the model has its tokenizer"
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    found = torch.tensor([number for row in encoded for number in row], dtype=torch.long)
    return torch.bincount(found, minlength=len(tokenizer))


def _texts(explainer: Explainer, chunk: Sequence[Sentence]) -> Iterator[Mapping[str, Tensor]]:
    return batches(explainer, [sentence.text for sentence in chunk])


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
