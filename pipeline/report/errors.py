"""Why a classifier errs: what it confuses, by which words, whether it would without them, and which labels to doubt."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from evaluation.errors import Confusion, confusions, proportion
from evaluation.errors.words import RECURRING, SHUFFLES
from pipeline.report.error_labels import doubtful_labels
from pipeline.report.error_pairs import ExplainedPair, correction_table, pair_block
from pipeline.report.html import Child, Safe, percents, tag
from pipeline.report.texts import Row, Texts

MATRIX = 12  # classes of which a matrix is shown; of more the pairs alone
PAIRS = 6  # that are looked at one by one
LISTED = 20

_HINT = (
    "Words by {method}: predicted class against gold class. Each text counts as much as any other: its scores are "
    "divided by the sum of their absolute values; a text without the word counts 0. “Shuffled” is what the word would "
    "have if the scores of each text were dealt out at random among its words, “strength” by how many standard "
    "deviations of that it has more. Above chance: stronger than the strongest of all words in 95 % of {shuffles} such "
    "deals, and the interval (95 %) above “shuffled”. Words have to be in {recurring} errors, and of strength 1, to be "
    "listed."
)


@dataclass(frozen=True)
class Errors:
    """The errors of a run."""

    manifest: Mapping[str, Any]
    data: Texts
    explained: Sequence[Row]  # rows of ERRORS
    words: Sequence[Row] | None  # rows of ERROR_WORDS; None where not a word may be told
    shown: Collection[int]  # examples whose texts may be told

    @property
    def labels(self) -> list[int | None]:
        """Gold class of each example."""
        return [row["label"] for row in self.data.examples]

    @property
    def predicted(self) -> list[int]:
        """Predicted class of each example."""
        return [self.data.predictions[row["item_id"]]["predicted"] for row in self.data.examples]

    @cached_property
    def names(self) -> dict[int, str]:
        """Classes as the data set spells them, which for many checkpoints is all that says what they mean."""
        own = {int(index): str(name) for index, name in (self.manifest["model"].get("labels") or {}).items()}
        told = {row["label"]: row["label_name"] for row in self.data.examples if row["label_name"] is not None}
        return {**own, **{index: str(name) for index, name in told.items() if index is not None}}

    def name(self, index: int) -> str:
        """A class in words."""
        return self.names.get(index, str(index))

    def pair(self, confused: Confusion) -> ExplainedPair:
        """What is known of a pair of classes."""
        classes = confused.gold, confused.predicted
        own = [row for row in self.explained if (row["gold"], row["predicted"]) == classes]
        words = None
        if self.words is not None:
            words = [row for row in self.words if (row["gold"], row["predicted"]) == classes]
        return ExplainedPair(confused, self.name(classes[0]), self.name(classes[1]), own, words)


def errors_section(errors: Errors) -> Child:
    """The section of a classifier; None for any other model."""
    if (errors.manifest.get("model") or {}).get("task") != "classification" or not errors.data.examples:
        return None
    labelled = sum(label is not None for label in errors.labels)
    if not labelled:
        return tag("p", "The data has no labels: which predictions are errors cannot be told.")
    found = confusions(errors.labels, errors.predicted)
    wrong = sum(pair.n for pair in found)
    return [
        tag("p", _lead(wrong, labelled, len(errors.labels)), class_="finding more"),
        [_confused(errors, found), _causes(errors, found)] if found else None,
        doubtful_labels(errors.data, errors.labels, errors.name, errors.shown),
    ]


def _lead(wrong: int, labelled: int, total: int) -> str:
    without = f"; {total - labelled:,} more have no label" if labelled < total else ""
    if not wrong:
        return f"All {labelled:,} labelled texts are classified as they are labelled{without}."
    share = proportion(wrong, labelled)
    return (
        f"{wrong:,} of {labelled:,} labelled texts ({share.value:.1%} {percents(share.low, share.high)}) are not "
        f"classified as they are labelled{without}."
    )


def _confused(errors: Errors, found: Sequence[Confusion]) -> Iterator[Child]:
    classes = sorted({label for label in errors.labels if label is not None} | set(errors.predicted))
    yield tag("h3", "What is taken for what")
    if len(classes) <= MATRIX:
        yield _matrix(errors, classes)
    if len(found) > 1 or len(classes) > MATRIX:
        yield _pairs(errors, found[:LISTED])
    if len(found) > LISTED:
        yield tag("p", f"{len(found) - LISTED} more pairs have fewer errors.", class_="hint")


def _pairs(errors: Errors, found: Sequence[Confusion]) -> Safe:
    names = ("labelled", "predicted", "errors", "of those labelled so")
    head = [tag("th", text, scope="col", class_="number" if place > 1 else None) for place, text in enumerate(names)]
    rows = [
        tag(
            "tr",
            tag("th", errors.name(pair.gold), scope="row"),
            tag("td", errors.name(pair.predicted)),
            tag("td", f"{pair.n:,}", class_="number"),
            tag("td", tag("div", f"{pair.share.value:.1%}"), _interval(pair), class_="number"),
        )
        for pair in found
    ]
    table = tag("table", tag("thead", tag("tr", head)), tag("tbody", rows), class_="plain")
    return tag("div", table, class_="scroll")


def _interval(pair: Confusion) -> Safe:
    return tag("small", percents(pair.share.low, pair.share.high))


def _matrix(errors: Errors, classes: Sequence[int]) -> Safe:
    counts = {(gold, guess): 0 for gold in classes for guess in classes}
    for gold, guess in zip(errors.labels, errors.predicted, strict=True):
        if gold is not None:
            counts[gold, guess] += 1
    sizes = {gold: sum(counts[gold, guess] for guess in classes) or 1 for gold in classes}
    head = tag("tr", tag("td"), [tag("th", f"predicted {errors.name(guess)}", scope="col") for guess in classes])
    rows = [
        tag(
            "tr",
            tag("th", f"labelled {errors.name(gold)}", scope="row"),
            [
                tag(
                    "td", f"{counts[gold, guess]:,}", class_="right" if gold == guess else "wrong",
                    style=f"--share:{counts[gold, guess] / sizes[gold]:.3f}",
                )
                for guess in classes
            ],
        )
        for gold in classes
    ]  # fmt: skip
    return tag("div", tag("table", tag("thead", head), tag("tbody", rows), class_="confusions"), class_="scroll")


def _causes(errors: Errors, found: Sequence[Confusion]) -> Iterator[Child]:
    record = errors.manifest.get("errors")
    if not record:
        yield tag("p", _unexplained(errors.manifest), class_="hint")
        return
    yield tag("h3", "Which words caused them")
    yield _explained(record)
    if errors.words is None:
        yield tag("p", "Words and texts are left out of this report (report.texts=none).", class_="hint")
    else:
        yield tag("p", _HINT.format(method=record["method"], shuffles=SHUFFLES, recurring=RECURRING), class_="hint")
    pairs = [pair for confused in found if (pair := errors.pair(confused)).rows]
    if len(pairs) > 1:
        yield [tag("h4", "All errors together"), correction_table([row for pair in pairs for row in pair.rows])]
    for place, pair in enumerate(pairs[:PAIRS]):
        yield pair_block(pair, errors.data, errors.shown, opened=not place)
    if len(pairs) > PAIRS:
        more = f"{len(pairs) - PAIRS} pairs with fewer errors are in the tables errors and error_words."
        yield tag("p", more, class_="hint")


def _explained(record: Mapping[str, Any]) -> Child:
    """How many were explained, where it is not all of them."""
    told = []
    if record["explained"] < record["errors"]:
        told.append(
            f"Explained: {record['explained']:,} of {record['errors']:,} errors, as many as errors.limit allows, drawn "
            "at random, and of these what can be computed."
        )
    if record["undefined"]:
        told.append(f"{record['undefined']:,} explained errors have no defined scores: no word is told of these.")
    return tag("p", " ".join(told)) if told else None


def _unexplained(manifest: Mapping[str, Any]) -> str:
    if manifest.get("windows"):
        return "Long texts were explained in windows; which words cause errors is told of whole texts alone."
    return "Which words caused them was not asked: errors.method is null, or no method of the run tells classes apart."
