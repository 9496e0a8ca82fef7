"""The steps of a run that explain its errors: plans of tasks, and their results put together."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from attribution.methods.units import Units
from attribution.words import words_of
from evaluation.errors import WordCauses, score_shares, top_words, word_causes
from pipeline.collect import in_order_of
from pipeline.config import Config
from pipeline.error_choice import explaining_label
from pipeline.microbatch import MicroBatch, inputs_of, padded, plan_microbatches, units_of
from pipeline.schedule import StagePlan, plan_whole
from pipeline.schemas import ERROR_WORDS, ERRORS, EXPLAINED_ERRORS, WITHOUT_WORDS
from pipeline.stages import explain_errors, remove_words

if TYPE_CHECKING:
    from pipeline.experiment import Experiment

TOP = (1, 2, 3)  # words of each error's own explanation that are taken away; then those of its pair
Row = Mapping[str, Any]
Classes = Mapping[int, tuple[int, int]]  # row of the examples -> gold and predicted class
Causes = Mapping[tuple[int, int], WordCauses]  # by gold and predicted class
WordSets = Mapping[str, Sequence[Sequence[int]]]  # item id -> numbers of the words that are taken away together
Steps = Generator[StagePlan, None, "ExplainedErrors"]


@dataclass
class ExplainedErrors:
    """What is known of the errors of a run; nothing where none are explained."""

    tables: dict[str, pa.Table] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)  # for the manifest


def error_steps(experiment: Experiment) -> Steps:
    """Explain the errors, then take away what caused them. Each plan is to be done before the next."""
    label, found = explaining_label(experiment.config, experiment.prepared), errors_of(experiment)
    if label is None or not found:
        return ExplainedErrors()
    drawn = drawn_errors(experiment, found)
    experiment.store_texts(experiment.prepared)  # predictions at hand leave them where an earlier run had them
    tables = yield from experiment.whole(lambda: plan_explaining(experiment, label, drawn))
    explained = _joined(experiment, tables, EXPLAINED_ERRORS)
    if not explained.num_rows:
        return ExplainedErrors(record=_record(label, found, {}, 0))
    causes, sets = _caused(experiment, explained)
    tables = yield from experiment.whole(lambda: plan_removing(experiment, drawn, sets))
    errors = _errors_table(explained, _joined(experiment, tables, WITHOUT_WORDS), sets)
    record = _record(label, found, causes, errors.num_rows)
    return ExplainedErrors({"errors": errors, "error_words": _words_table(causes)}, record)


def _record(label: str, found: Classes, causes: Causes, explained: int) -> dict[str, Any]:
    """What the manifest says: `undefined` are those whose scores say nothing of any word."""
    undefined = sum(each.n_undefined for each in causes.values())
    return {"method": label, "errors": len(found), "explained": explained, "undefined": undefined}


def error_plans(experiment: Experiment) -> list[StagePlan]:
    """The plans of these steps, of a run whose predictions are known; the second one where the first is done."""
    label, found = explaining_label(experiment.config, experiment.prepared), errors_of(experiment)
    if label is None or not found:
        return []
    drawn = drawn_errors(experiment, found)
    first = plan_explaining(experiment, label, drawn)
    if first.tasks:
        return [first]
    tables = experiment.results.tables(first.keys[first.stage], first.stage)
    _, sets = _caused(experiment, _joined(experiment, tables, EXPLAINED_ERRORS))
    return [first, plan_removing(experiment, drawn, sets)]


def _caused(experiment: Experiment, explained: pa.Table) -> tuple[Causes, WordSets]:
    """The words of each pair of classes, and what is taken away of each item."""
    texts = ErrorTexts.of(experiment, explained)
    causes = texts.causes(experiment.config)
    return causes, dict(zip(explained["item_id"].to_pylist(), texts.sets(causes), strict=True))


def errors_of(experiment: Experiment) -> dict[int, tuple[int, int]]:
    """Those that are misclassified; a text without a label is none."""
    gold = experiment.prepared.examples["label"].to_pylist()
    predicted = experiment.predictions["predicted"].to_pylist()
    pairs = enumerate(zip(gold, predicted, strict=True))
    return {row: pair for row, pair in pairs if pair[0] is not None and pair[0] != pair[1]}


def drawn_errors(experiment: Experiment, found: Classes) -> Classes:
    """As many of them as are explained: ids are hashes, so that those of the smallest are drawn at random."""
    items = experiment.prepared.examples["item_id"].to_pylist()
    drawn = sorted(found, key=lambda row: str(items[row]))[: experiment.config.errors.limit]
    return {row: found[row] for row in sorted(drawn)}


def error_batches(experiment: Experiment, drawn: Classes) -> list[MicroBatch]:
    """The errors in microbatches of their own, without those that turned out impossible to compute."""
    rows = sorted(row for batch in experiment.batches for row in batch.rows if row in drawn)
    if not rows:
        return []
    table = experiment.prepared.examples.take(rows)
    planned = plan_microbatches(table, experiment.config.cluster, experiment.prepared.model.max_length)
    return [replace(batch, rows=tuple(rows[row] for row in batch.rows)) for batch in planned]


def plan_explaining(experiment: Experiment, label: str, drawn: Classes) -> StagePlan:
    """A task for each microbatch."""
    config, method = experiment.config.explain, experiment.methods[label]
    options = {"output": config.output, "hide_separators": config.hide_separators}
    tasks = [
        explain_errors.task_of(experiment.setting, batch, method, [drawn[row] for row in batch.rows], options)
        for batch in error_batches(experiment, drawn)
    ]
    return plan_whole(experiment.ledger, explain_errors.STAGE, tasks)


def plan_removing(experiment: Experiment, drawn: Classes, sets: WordSets) -> StagePlan:
    """A task for each microbatch."""
    config = experiment.config
    options = {"draws": config.errors.draws, "operator": config.evaluation.operator, "seed": config.evaluation.seed}
    tasks = [
        remove_words.task_of(experiment.setting, batch, [sets[item] for item in batch.items], options)
        for batch in error_batches(experiment, drawn)
    ]
    return plan_whole(experiment.ledger, remove_words.STAGE, tasks)


def _joined(experiment: Experiment, tables: Mapping[str, pa.Table], schema: pa.Schema) -> pa.Table:
    """In the order of the data."""
    found = pa.concat_tables([schema.empty_table(), *tables.values()])
    examples = experiment.prepared.examples
    return in_order_of(examples.filter(pc.is_in(examples["item_id"], found["item_id"].combine_chunks())), found)


def _errors_table(explained: pa.Table, without: pa.Table, sets: WordSets) -> pa.Table:
    """Rows of ERRORS, of those that were computed without their words."""
    explained = in_order_of(without, explained)
    columns = {name: explained[name] for name in explained.column_names}
    columns |= {"sets": [sets[item] for item in without["item_id"].to_pylist()]}
    columns |= {name: without[name] for name in without.column_names[1:]}
    return pa.table(columns, schema=ERRORS)


@dataclass(frozen=True)
class ErrorTexts:
    """Explained errors with the words of their texts and the scores of these, predicted against gold class."""

    pairs: list[tuple[int, int]]  # gold and predicted class of each
    units: Units  # [B, N]
    words: list[list[str]]
    scores: torch.Tensor  # [B, N]

    @classmethod
    def of(cls, experiment: Experiment, explained: pa.Table) -> ErrorTexts:
        """Of rows of EXPLAINED_ERRORS."""
        rows = in_order_of(explained, experiment.prepared.examples).to_pylist()
        length = max(len(row["input_ids"]) for row in rows)
        units = word_units(rows, length)
        scores = torch.zeros(units.ids.shape, dtype=torch.float64)
        for place, own in enumerate(explained["contrast_scores"].to_pylist()):
            scores[place, : len(own)] = torch.tensor(own, dtype=torch.float64)
        pairs = list(zip(explained["gold"].to_pylist(), explained["predicted"].to_pylist(), strict=True))
        words = [unit_words(row, ids) for row, ids in zip(rows, units.ids.tolist(), strict=True)]
        return cls(pairs, units, words, scores)

    def causes(self, config: Config) -> Causes:
        """The words of each pair of classes."""
        scoring, found = config.evaluation, {}
        options = {"samples": scoring.bootstrap_samples, "confidence": scoring.confidence, "seed": scoring.seed}
        for pair in dict.fromkeys(sorted(self.pairs)):
            rows = [row for row, own in enumerate(self.pairs) if own == pair]
            words, scores = [self.words[row] for row in rows], [self._of_words(row) for row in rows]
            found[pair] = word_causes(words, scores, number=config.errors.words, **options)  # type: ignore[arg-type]
        return found

    def sets(self, causes: Causes) -> list[list[list[int]]]:
        """Of each error: its strongest word, two and three strongest, and all words that caused errors of its pair.

        Where scores say nothing its own are empty: no word is first.
        """
        own, found = top_words(self.scores.nan_to_num(), self.units, TOP), []
        for row, pair in enumerate(self.pairs):
            caused = {cause.word for cause in causes[pair].causes}
            listed = [place for place, word in enumerate(self.words[row]) if word.casefold() in caused]
            told = score_shares(self._of_words(row), len(self.words[row])) is not None
            first = [chosen.nonzero()[:, 0].tolist() if told else [] for chosen in own[row]]
            found.append([*first, listed])
        return found

    def _of_words(self, row: int) -> Any:
        ids, scores = self.units.ids[row].numpy(), self.scores[row].numpy()
        return np.bincount(ids[ids >= 0], scores[ids >= 0], minlength=len(self.words[row]))


def word_units(rows: Sequence[Row], length: int) -> Units:
    """The words of rows of the examples table, numbered as they are where they are taken away."""
    inputs = replace(inputs_of(rows, length, 0), **units_of(rows, length, {"word"}))
    content = torch.from_numpy(padded([row["special_tokens"] for row in rows], length, 1)) == 0
    return Units.among(inputs, content & inputs.attention_mask.bool(), "word")


def unit_words(row: Row, ids: Sequence[int]) -> list[str]:
    """The words of a text as it spells them, in the order of their numbers."""
    offsets = [(span["start"], span["end"]) for span in row["offsets"]]
    fields = list(zip(row["field_ids"], ids[: len(offsets)], strict=True))
    return [
        word.text
        for field, text in enumerate((row["text"], row["text_b"]))
        if text is not None
        for word in words_of([unit if own == field else -1 for own, unit in fields], offsets, text)
    ]


def _words_table(causes: Causes) -> pa.Table:
    return pa.Table.from_pylist(list(_word_rows(causes)), schema=ERROR_WORDS)


def _word_rows(causes: Causes) -> Iterator[dict[str, Any]]:
    for (gold, predicted), found in causes.items():
        about = {"gold": gold, "predicted": predicted, "chance": found.chance, "errors": found.n}
        for cause in found.causes:
            yield {**about, "n_undefined": found.n_undefined, **cause._asdict()}
