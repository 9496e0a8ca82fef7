"""The steps of a run that explain its errors: plans of tasks, and their results put together."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from attribution.methods.units import Units
from attribution.words import words_of
from evaluation.errors import WordCauses, top_words, word_causes
from pipeline.collect import in_order_of
from pipeline.config import Config
from pipeline.error_choice import explaining_label
from pipeline.microbatch import MicroBatch, inputs_of, padded, plan_microbatches, units_of
from pipeline.schedule import StagePlan, plan_whole
from pipeline.schemas import ERROR_WORDS, ERRORS
from pipeline.stages import explain_errors, remove_words

if TYPE_CHECKING:
    from pipeline.experiment import Experiment

TOP = (1, 2, 3)  # words of each error's own explanation that are taken away; then those of its pair
Row = Mapping[str, Any]
Causes = Mapping[tuple[int, int], WordCauses]  # by gold and predicted class
Steps = Generator[StagePlan, None, "ExplainedErrors"]


@dataclass
class ExplainedErrors:
    """What is known of the errors of a run; nothing where none are explained."""

    tables: dict[str, pa.Table] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)  # for the manifest


def error_steps(experiment: Experiment) -> Steps:
    """Explain the errors, then take away what caused them. Each plan is to be done before the next."""
    label = explaining_label(experiment.config)
    found = errors_of(experiment)
    if label is None or not found:
        return ExplainedErrors()
    experiment.store_texts(experiment.prepared)  # predictions at hand leave them where an earlier run had them
    tables = yield from experiment.whole(lambda: plan_explaining(experiment, label))
    explained = _joined(experiment, tables)
    causes, sets = _caused(experiment, explained)
    tables = yield from experiment.whole(lambda: plan_removing(experiment, sets))
    without = _joined(experiment, tables)
    explained = in_order_of(without, explained)
    columns = {name: explained[name] for name in explained.column_names}
    columns |= {"sets": [sets[item] for item in without["item_id"].to_pylist()]}
    columns |= {name: without[name] for name in without.column_names[1:]}
    errors = pa.table(columns, schema=ERRORS)
    record = {"method": label, "explained": errors.num_rows, "errors": len(found)}
    return ExplainedErrors({"errors": errors, "error_words": _words_table(causes)}, record)


def error_plans(experiment: Experiment) -> list[StagePlan]:
    """The plans of these steps, of a run whose predictions are known; the second one where the first is done."""
    label = explaining_label(experiment.config)
    if label is None or not errors_of(experiment):
        return []
    first = plan_explaining(experiment, label)
    if first.tasks:
        return [first]
    tables = experiment.results.tables(first.keys[first.stage], first.stage)
    return [first, plan_removing(experiment, _caused(experiment, _joined(experiment, tables))[1])]


def _caused(experiment: Experiment, explained: pa.Table) -> tuple[Causes, dict[str, list[list[int]]]]:
    """The words of each pair of classes, and what is taken away of each item."""
    texts = ErrorTexts.of(experiment, explained)
    causes = texts.causes(experiment.config)
    return causes, dict(zip(explained["item_id"].to_pylist(), texts.sets(causes), strict=True))


def errors_of(experiment: Experiment) -> dict[int, tuple[int, int]]:
    """Row of the examples -> gold and predicted class, of those that are misclassified and can be computed."""
    if experiment.prepared.model.task != "classification" or experiment.prepared.texts is not None:
        return {}
    gold = experiment.prepared.examples["label"].to_pylist()
    predicted = experiment.predictions["predicted"].to_pylist()
    rows = sorted(row for batch in experiment.batches for row in batch.rows)
    return {row: (gold[row], predicted[row]) for row in rows if gold[row] not in (None, predicted[row])}


def chosen_errors(experiment: Experiment) -> dict[int, tuple[int, int]]:
    """As many of them as are explained: ids are hashes, so that those of the smallest are drawn at random."""
    found, items = errors_of(experiment), experiment.prepared.examples["item_id"].to_pylist()
    drawn = sorted(found, key=lambda row: items[row])[: experiment.config.errors.limit]
    return {row: found[row] for row in sorted(drawn)}


def error_batches(experiment: Experiment) -> list[MicroBatch]:
    """The errors in microbatches of their own."""
    rows = list(chosen_errors(experiment))
    table = experiment.prepared.examples.take(rows)
    planned = plan_microbatches(table, experiment.config.cluster, experiment.prepared.model.max_length)
    return [replace(batch, rows=tuple(rows[row] for row in batch.rows)) for batch in planned]


def plan_explaining(experiment: Experiment, label: str) -> StagePlan:
    """A task for each microbatch."""
    config, classes = experiment.config.explain, chosen_errors(experiment)
    options = {"output": config.output, "hide_separators": config.hide_separators}
    method = experiment.methods[label]
    tasks = [
        explain_errors.task_of(experiment.setting, batch, method, [classes[row] for row in batch.rows], options)
        for batch in error_batches(experiment)
    ]
    return plan_whole(experiment.ledger, explain_errors.STAGE, tasks)


def plan_removing(experiment: Experiment, sets: Mapping[str, Sequence[Sequence[int]]]) -> StagePlan:
    """A task for each microbatch; `sets` of each item."""
    config = experiment.config
    options = {"draws": config.errors.draws, "operator": config.evaluation.operator, "seed": config.evaluation.seed}
    tasks = [
        remove_words.task_of(experiment.setting, batch, [sets[item] for item in batch.items], options)
        for batch in error_batches(experiment)
    ]
    return plan_whole(experiment.ledger, remove_words.STAGE, tasks)


def _joined(experiment: Experiment, tables: Mapping[str, pa.Table]) -> pa.Table:
    """In the order of the data."""
    examples = experiment.prepared.examples.take(list(chosen_errors(experiment)))
    return in_order_of(examples, pa.concat_tables(tables.values()))


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
        """Of each error: its own first word, first two and three, and all words that caused errors of its pair."""
        own = top_words(self.scores.nan_to_num(), self.units, TOP)
        found = []
        for row, pair in enumerate(self.pairs):
            caused = {cause.word for cause in causes[pair].causes}
            listed = [place for place, word in enumerate(self.words[row]) if word.casefold() in caused]
            found.append([*(chosen.nonzero()[:, 0].tolist() for chosen in own[row]), listed])
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
