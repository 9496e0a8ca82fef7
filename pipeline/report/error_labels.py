"""Labels that are likely to be wrong, for a person to look at."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from evaluation.errors import FEWEST, LabelDoubt, likely_label_errors, proportion
from pipeline.report.html import Child, Safe, number, percents, tag
from pipeline.report.texts import Texts

SHOWN = 20
CHARACTERS = 240  # of a text
_HINT = (
    "Confident learning (Northcutt et al. 2021): the model predicts another class than the label and gives it at least "
    "the mean probability that this class has where the label says so. Surest first. It may as well be the model that "
    "is sure of a mistake: look at them. Wrong labels that the model was trained on and has learnt are not found."
)


def doubtful_labels(
    data: Texts, labels: Sequence[int | None], name: Callable[[int], str], shown: Collection[int]
) -> Child:
    """The part of the section on labels; `name` of a class, `shown`: examples whose texts may be told."""
    probabilities = [data.predictions[row["item_id"]]["probabilities"] for row in data.examples]
    doubts = likely_label_errors(probabilities, labels)
    labelled = sum(label is not None for label in labels)
    return [
        tag("h3", "Labels to look at"),
        tag("p", _told(doubts, labelled), _small(labels, name)),
        [tag("p", _HINT, class_="hint"), _table(doubts[:SHOWN], data, name, shown), _more(doubts)] if doubts else None,
    ]


def _told(doubts: Sequence[LabelDoubt], labelled: int) -> str:
    if not doubts:
        return f"None of the {labelled:,} labels is likely to be wrong, by what the model is sure of."
    share = proportion(len(doubts), labelled)
    verb = "is" if len(doubts) == 1 else "are"
    return (
        f"{len(doubts):,} of {labelled:,} labels ({share.value:.1%} {percents(share.low, share.high)}) {verb} likely "
        "to be wrong, if the model is to be believed."
    )


def _small(labels: Sequence[int | None], name: Callable[[int], str]) -> str | None:
    """Classes whose threshold rests on a few examples."""
    known = [label for label in labels if label is not None]
    few = {label: known.count(label) for label in sorted(set(known)) if known.count(label) < FEWEST}
    if not few:
        return None
    said = ", ".join(f"{name(label)} ({count})" for label, count in few.items())
    return f" Classes with few texts, of which a threshold says little: {said}."


def _table(doubts: Sequence[LabelDoubt], data: Texts, name: Callable[[int], str], shown: Collection[int]) -> Safe:
    spelled = any(doubt.row in shown for doubt in doubts)
    names = ("Row", *(["text"] if spelled else []), "label", "likely")
    rows = [
        tag(
            "tr",
            tag("th", f"#{data.examples[doubt.row]['row_index']}", scope="row"),
            tag("td", _text(data, doubt.row) if doubt.row in shown else None) if spelled else None,
            [tag("td", name(index), " ", _chance(data, doubt.row, index)) for index in (doubt.label, doubt.likely)],
        )
        for doubt in doubts
    ]
    head = tag("tr", [tag("th", text, scope="col") for text in names])
    table = tag("table", tag("thead", head), tag("tbody", rows), class_="plain doubts")
    return tag("div", table, class_="scroll")


def _chance(data: Texts, row: int, index: int) -> Safe:
    return tag("small", number(data.predictions[data.examples[row]["item_id"]]["probabilities"][index]))


def _more(doubts: Sequence[LabelDoubt]) -> Child:
    left = len(doubts) - SHOWN
    return tag("p", f"{left:,} more are not shown.", class_="hint") if left > 0 else None


def _text(data: Texts, index: int) -> list[Child]:
    """As much of a text, or of both, as fits."""
    row = data.examples[index]
    return [
        tag("div", text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]} …")
        for text in (row["text"], row["text_b"])
        if text
    ]
