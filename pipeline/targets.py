"""What is explained of each example, and whether the data's labels are in the model's order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from attribution.errors import InputError
from pipeline.config import Config
from pipeline.data.labels import LabelFit, label_fit, override
from pipeline.models import ResolvedModel
from pipeline.prepare import Prepared

Row = Mapping[str, Any]
Choose = Callable[[Row, Row], Any]  # example, prediction -> target


def targets_of(config: Config, is_qa: bool, examples: Sequence[Row], predictions: Sequence[Row]) -> list[Any]:
    """One target per example: a class, or (start, end)."""
    choose = check_target(config, is_qa)
    return [choose(example, prediction) for example, prediction in zip(examples, predictions, strict=True)]


def check_target(config: Config, is_qa: bool) -> Choose:
    """How a target is chosen; InputError where the model has no such targets."""
    choices = QA_TARGETS if is_qa else CLASS_TARGETS
    if config.explain.target not in choices:
        raise InputError(
            f"conf error: explain.target={config.explain.target} does not fit this model; choose {', '.join(choices)}."
        )
    return choices[config.explain.target]


def check_gold(config: Config, is_qa: bool, examples: Sequence[Row]) -> None:
    """InputError where gold labels or answers are asked for and an example has none."""
    for example in examples:
        if config.explain.target == "gold":
            check_target(config, is_qa)(example, {})
        if config.dataset.min_gold_probability:
            _gold_label(example, f"dataset.min_gold_probability={config.dataset.min_gold_probability:g}")


def _predicted(example: Row, prediction: Row) -> int:
    return int(prediction["predicted"])


def _runner_up(example: Row, prediction: Row) -> int:
    order = sorted(range(len(prediction["logits"])), key=lambda c: -prediction["logits"][c])
    return order[1]


def _gold(example: Row, prediction: Row) -> int:
    return _gold_label(example, "explain.target=gold")


def _gold_label(example: Row, needed_by: str) -> int:
    if example["label"] is None:
        row = example["row_index"] + 1
        raise InputError(
            f"conf error: {needed_by} needs a gold label of every example; row {row} of the data has none."
        )
    return int(example["label"])


def _predicted_span(example: Row, prediction: Row) -> tuple[int, int]:
    return int(prediction["predicted"]), int(prediction["predicted_end"])


def _gold_span(example: Row, prediction: Row) -> tuple[int, int]:
    if example["answer_start"] is None:
        row = example["row_index"] + 1
        raise InputError(
            f"conf error: explain.target=gold needs a gold answer within the tokens kept; row {row} has none."
        )
    return int(example["answer_start"]), int(example["answer_end"])


CLASS_TARGETS: dict[str, Choose] = {
    "predicted": _predicted,
    "gold": _gold,
    "runner_up": _runner_up,
}
QA_TARGETS: dict[str, Choose] = {
    "predicted": _predicted_span,
    "span": _predicted_span,
    "gold": _gold_span,
}


def check_labels(prepared: Prepared, examples: pa.Table, predictions: pa.Table) -> LabelFit | None:
    """Accuracy beside the majority rate; InputError where the labels fit clearly better in another order."""
    labels = examples["label"].to_pylist()
    pairs = [
        (label, guess)
        for label, guess in zip(labels, predictions["predicted"].to_pylist(), strict=True)
        if label is not None
    ]
    if prepared.is_qa or not pairs:
        return None
    gold, guessed = zip(*pairs, strict=True)
    fit = label_fit(gold, guessed, len(prepared.model.labels))
    if fit.permuted_is_better and prepared.model.task == "classification":
        raise InputError(_other_order(fit, prepared))
    return fit


def _other_order(fit: LabelFit, prepared: Prepared) -> str:
    names = _names(prepared.examples)
    order = override({names.get(i, str(i)): fit.permutation[i] for i in range(len(fit.permutation)) if i in names})
    return (
        f"conf error: model.label_map: the model agrees with {fit.accuracy:.1%} of the labels as they are mapped, but "
        f"with {fit.permuted_accuracy:.1%} in another order (n={fit.n}); if that order is right, add {order}"
    )


def _names(examples: pa.Table) -> dict[int, str]:
    pairs = zip(examples["label"].to_pylist(), examples["label_name"].to_pylist(), strict=True)
    return {index: name for index, name in pairs if index is not None}


def likely_gold(config: Config, examples: Sequence[Row], predictions: Sequence[Row]) -> list[int]:
    """Rows whose gold class the model gives at least `dataset.min_gold_probability`."""
    least = config.dataset.min_gold_probability
    if not least:
        return list(range(len(examples)))
    pairs = enumerate(zip(examples, predictions, strict=True))
    kept = [i for i, (example, p) in pairs if p["probabilities"][example["label"]] >= least]
    if not kept:
        raise InputError(f"conf error: dataset.min_gold_probability={least:g} leaves none of {len(examples)} examples.")
    return kept


def describe_fit(fit: LabelFit, model: ResolvedModel) -> str:
    """Accuracy in one line."""
    accuracy, majority = f"{fit.accuracy:.3f}", f"{fit.majority_rate:.3f}"
    return f"{model.name}: accuracy {accuracy} on {fit.n} labelled examples (majority rate {majority})"
