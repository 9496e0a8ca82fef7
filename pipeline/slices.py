"""By what the examples of a run are sliced: length, confidence, correctness, class, truncation, negation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from evaluation.statistics import ExampleFacts, standard_slices
from pipeline.runs import Run

EXAMPLES = ["item_id", "text", "text_b", "label", "input_ids", "truncated", "answer_start", "answer_end"]
ANSWER, OTHER = "the answer", "another span"  # what a span is called that was predicted of a question


def run_slices(run: Run) -> dict[str, frozenset[str]]:
    """Ids of the examples of each slice; without those that hold no example, or all of them."""
    facts = example_facts(run)
    return {name: members for name, members in standard_slices(facts).items() if 0 < len(members) < len(facts)}


def example_facts(run: Run) -> dict[str, ExampleFacts]:
    """What each predicted example is sliced by, by its id."""
    examples = {row["item_id"]: row for row in run.table("examples", EXAMPLES).to_pylist()}
    names = {str(index): str(name) for index, name in (run.manifest["model"].get("labels") or {}).items()}
    return {
        row["item_id"]: _facts(examples[row["item_id"]], row, names) for row in run.table("predictions").to_pylist()
    }


def _facts(example: Mapping[str, Any], predicted: Mapping[str, Any], names: Mapping[str, str]) -> ExampleFacts:
    guess, label, confidence = _span(example, predicted) if _is_span(predicted) else _class(example, predicted, names)
    return ExampleFacts(
        text=" ".join(filter(None, (example["text"], example["text_b"]))),
        length=len(example["input_ids"]),
        confidence=confidence,
        predicted=guess,
        label=label,
        truncated=bool(example["truncated"]),
    )


def _is_span(predicted: Mapping[str, Any]) -> bool:
    return predicted["predicted_end"] is not None


def _span(example: Mapping[str, Any], predicted: Mapping[str, Any]) -> tuple[str, str | None, float]:
    """Predicted span, gold span and confidence; the classes of a question are whether its answer was found."""
    gold = (example["answer_start"], example["answer_end"])
    found = (predicted["predicted"], predicted["predicted_end"]) == gold
    known = None if gold[0] is None else ANSWER
    return ANSWER if found else OTHER, known, math.prod(predicted["probabilities"])


def _class(
    example: Mapping[str, Any], predicted: Mapping[str, Any], names: Mapping[str, str]
) -> tuple[str, str | None, float]:
    guess, label = str(predicted["predicted"]), None if example["label"] is None else str(example["label"])
    named = None if label is None else names.get(label, label)
    return names.get(guess, guess), named, predicted["probabilities"][predicted["predicted"]]
