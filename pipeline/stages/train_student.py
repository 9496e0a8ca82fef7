"""A small scorer of sentences, trained with patterns or without: what its choices of sentences are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attribution.explainer import Explainer
from attribution.patterns.training import Training
from attribution.summaries.choice import choosing, inputs_of
from attribution.summaries.encoding import encode
from attribution.summaries.scorer import score_sentences
from attribution.summaries.training import train_scorer
from evaluation.summaries import score_summary
from pipeline.arm_models import Making, files_of, made, sentence_scorer_in
from pipeline.checkpoints import StoredCheckpoint
from pipeline.data.summaries import Document
from pipeline.execution.task import Task
from pipeline.keys import digest
from pipeline.schemas import STUDENT
from pipeline.stages.score_injected import Scoring
from pipeline.stages.score_injected import values_of as scores_of
from pipeline.stages.setting import Setting
from pipeline.worker import ModelRef, StageWorker

STAGE = "train_student"
DOCUMENTS = "documents"
LOGIT = "logit"
TOGETHER = 8  # documents that are explained in a pass


@dataclass(frozen=True)
class Student:
    """How a student is made, trained and tested."""

    making: Making
    training: Training
    sentences: int  # of the summaries it is tested by
    taught_by: str | None = None  # key of the student whose logits it learns from
    teaches: bool = False  # whether others learn from its logits
    begins_as: str | None = None  # key of the student that it begins as, whose files are kept; None: it is drawn
    scoring: Scoring | None = None  # how its choices are explained; None: they are not
    explained: int = 0  # so many of the first documents


def task_of(
    setting: Setting, documents: Mapping[str, str], student: Student, weight: float, *, keep: bool = False
) -> Task:
    """The task that trains one student; `documents`: keys of those to `train` on and to `test` by.

    keep: whether its files are a second result, under `kept_key`.
    """
    key = setting.key(STAGE, documents=dict(documents), student=student)
    payload = {"key": key, "model": setting.model, "documents": dict(documents), "student": student, "keep": keep}
    results = (key, *((kept_key(key),) if keep else ()))
    return Task(key, STAGE, payload, setting.model.fingerprint, weight, results)


def kept_key(key: str) -> str:
    """Key of the files of a model, from that of what it reached."""
    return digest({"files": key})


def process(
    *,
    worker: StageWorker,
    rows: slice,
    key: str,
    model: ModelRef,
    documents: dict[str, str],
    student: Student,
    keep: bool,
) -> dict[str, pa.Table]:
    """Train a student and test it; there are no rows to be divided into. Killed, it goes on behind its last epoch."""
    explainer = worker.explainer(model)
    tokenizer, training = explainer.tokenizer, student.training
    assert tokenizer is not None, "runs have tokenizers"
    train, test = (_documents(worker.read(documents[split], DOCUMENTS)) for split in ("train", "test"))
    begins = None if student.begins_as is None else worker.read(kept_key(student.begins_as), STAGE)
    trained = made(explainer, student.making, None if begins is None else sentence_scorer_in(begins))
    taught = None if student.taught_by is None else _logits(worker.read(student.taught_by, STAGE))
    checkpoint = StoredCheckpoint(worker.store, key, training.epochs)
    losses = train_scorer(trained, tokenizer, train, training, taught=taught, checkpoint=checkpoint)
    scored = partial(_scored, trained, tokenizer, training.max_length)
    reached = {"loss": losses, **values_of(scored(test), test, student.sentences)}
    if student.scoring is not None:
        reached |= _explained(trained, explainer, test[: student.explained], student)
    cells = [(name, number, value) for name, values in reached.items() for number, value in enumerate(values)]
    teaching = scored(train) if student.teaches else []
    cells += [(LOGIT, number, value) for number, values in enumerate(teaching) for value in values]
    checkpoint.clear()
    found = pa.table(dict(zip(STUDENT.names, zip(*cells, strict=True), strict=True)), schema=STUDENT)
    return {key: found, **({kept_key(key): files_of(trained, tokenizer)} if keep else {})}


def _scored(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int, documents: Sequence[Document]
) -> list[list[float]]:
    texts = [document.sentences for document in documents]
    return score_sentences(model, tokenizer, texts, max_length=max_length)


def _logits(table: pa.Table) -> list[list[float]]:
    """Of the sentences of each document, from the table of a teacher."""
    found: dict[int, list[float]] = {}
    for row in table.filter(pc.field("metric") == LOGIT).to_pylist():
        found.setdefault(row["number"], []).append(row["value"])
    return [found[number] for number in range(len(found))]


def _explained(
    model: PreTrainedModel, base: Explainer, documents: Sequence[Document], student: Student
) -> dict[str, list[float]]:
    """By metric, what explanations of the sentences are worth that come first, each of its own document."""
    tokenizer, scoring = base.tokenizer, student.scoring
    assert tokenizer is not None
    assert scoring is not None
    assert tokenizer.cls_token_id is not None, "documents are encoded with it"
    most = max(len(document.sentences) for document in documents)
    explainer = Explainer(choosing(model, tokenizer.cls_token_id, most), tokenizer, max_tokens=base.max_tokens)
    found: list[list[float]] = []
    for start in range(0, len(documents), TOGETHER):
        texts = [document.sentences for document in documents[start : start + TOGETHER]]
        inputs = inputs_of(encode(tokenizer, texts, student.training.max_length).to(model.device))
        found += scores_of(explainer, inputs, inputs, scoring)
    return {metric: [row[place] for row in found] for place, metric in enumerate(scoring.metrics)}


def values_of(
    scores: Sequence[Sequence[float]], documents: Sequence[Document], sentences: int
) -> dict[str, list[float]]:
    """By metric, what the `sentences` best sentences of each document are worth; `scores` are those of sentences."""
    found: dict[str, list[float]] = {}
    for row, document in zip(scores, documents, strict=True):
        told = document.sentences, document.references, document.oracle or ()
        summary = score_summary(row, *told, count=sentences)
        each = {**summary.rouge, "hit": summary.hit, "reciprocal_rank": summary.reciprocal_rank}
        for name, value in each.items():
            found.setdefault(name, []).append(value)
    return found


def _documents(table: pa.Table) -> list[Document]:
    return [
        Document(row["id"], tuple(row["sentences"]), tuple(row["references"]), tuple(row["oracle"]))
        for row in table.to_pylist()
    ]
