"""One pair of classes that are confused: the words, what becomes of the errors without them, and some of the errors."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attribution.rendering import html_fragment
from evaluation.errors import FEWEST, NOT_RUN, Confusion, corrected
from evaluation.statistics import Interval
from pipeline.report.html import Child, Safe, number, percents, signed, tag
from pipeline.report.texts import Row, Texts

SHOWN = 5  # errors of a pair with their texts
_SETS = ("its strongest word", "its 2 strongest words", "its 3 strongest words", "the words listed, where it has any")


@dataclass(frozen=True)
class ExplainedPair:
    """A pair of classes with the names of both, its explained errors (rows of ERRORS), and its words (ERROR_WORDS).

    words: None where not a word may be told.
    """

    confused: Confusion
    gold: str
    predicted: str
    rows: Sequence[Row]
    words: Sequence[Row] | None


def pair_block(pair: ExplainedPair, data: Texts, shown: Collection[int], *, opened: bool) -> Child:
    """All about a pair; of its texts only examples that may be `shown`."""
    n, share = pair.confused.n, pair.confused.share
    told = f"{_errors(n)}, {share.value:.1%} {percents(share.low, share.high)} of the texts labelled {pair.gold}."
    return [
        tag("h4", f"Labelled {pair.gold}, predicted {pair.predicted}"),
        tag("p", told, _few(len(pair.rows))),
        None if pair.words is None else _words(pair.words),
        correction_table(pair.rows),
        _examples(pair, data, shown, opened),
    ]


def _errors(n: int) -> str:
    return f"{n:,} error" if n == 1 else f"{n:,} errors"


def _few(n: int) -> Child:
    return (
        f" {_errors(n)}: too few for an interval (fewer than {FEWEST}); single cases, no pattern."
        if n < FEWEST
        else None
    )


def _words(words: Sequence[Row]) -> Child:
    if not words:
        return tag("p", "No word that recurs in these errors speaks for the predicted class.", class_="hint")
    numbers = {"scope": "col", "class_": "number"}
    head = [
        tag("th", "Word", scope="col"),
        tag("th", "errors with it", **numbers),
        tag("th", "mean share of the attribution", scope="col", colspan=2),
        [tag("th", text, **numbers) for text in ("shuffled", "strength")],
        tag("td"),
    ]
    largest = max(_end(row) for row in words)
    rows = [_word(row, largest) for row in words]
    chance = number(words[0]["chance"], 1)
    told = f"Chance alone makes the strongest of all words {chance} strong at most (in 95 % of deals)."
    table = tag("table", tag("thead", tag("tr", head)), tag("tbody", rows), class_="plain causes")
    return [tag("div", table, class_="scroll"), tag("p", told, class_="hint")]


def _word(row: Row, largest: float) -> Safe:
    return tag(
        "tr",
        tag("th", row["word"], scope="row"),
        tag("td", f"{row['n']:,}", class_="number"),
        tag("td", _bar(row, largest), aria_hidden="true"),
        tag("td", tag("b", f"{row['value']:.1%}"), " ", tag("small", percents(row["low"], row["high"]))),
        tag("td", f"{row['shuffled']:.1%}".replace("-", "−"), class_="number"),
        tag("td", number(row["strength"], 1), class_="number"),
        tag("td", tag("span", "above chance", class_="tag best") if row["above_chance"] else None),
    )


def _end(row: Row) -> float:
    """Where what is drawn of a word ends."""
    return float(row["high"] if np.isfinite(row["high"]) else row["value"])


def _bar(row: Row, largest: float) -> Safe:
    """The value as a bar with its interval; the tick is what shuffled scores give."""
    value, low, high, chance = (
        100 * max(0.0, row[name]) / (largest or 1.0) for name in ("value", "low", "high", "shuffled")
    )
    line = tag("line", x1=f"{low:.1f}", x2=f"{high:.1f}", y1=6, y2=6, class_="whisker")
    return tag(
        "svg",
        tag("rect", x=0, y=2, width=f"{value:.1f}", height=8),
        line if np.isfinite(row["high"]) else None,
        tag("line", x1=f"{chance:.1f}", x2=f"{chance:.1f}", y1=0, y2=12, class_="chance"),
        class_="strip", viewBox="0 0 104 12", aria_hidden="true",
    )  # fmt: skip


def correction_table(rows: Sequence[Row]) -> Safe:
    """What share of some errors (rows of ERRORS) is corrected without sets of words, and without random ones."""
    names = ("Without", "errors that have them", "corrected", "as many random words", "difference, points")
    head = tag(
        "tr", [tag("th", text, scope="col", class_="number" if place else None) for place, text in enumerate(names)]
    )
    asked = [place for place in range(len(_SETS)) if any(row["classes"][place] != NOT_RUN for row in rows)]
    body = [_correction(rows, place, _SETS[place]) for place in asked]
    table = tag("table", tag("thead", head), tag("tbody", body), class_="plain corrections")
    return tag("div", table, class_="scroll")


def _correction(rows: Sequence[Row], place: int, name: str) -> Safe:
    gold = [row["gold"] for row in rows]
    chosen = [row["classes"][place] for row in rows]
    found = corrected(gold, chosen, [_random(row, place) for row in rows])
    better = np.isfinite(found.difference.low) and found.difference.low > 0
    cells = [
        tag("td", f"{sum(each != NOT_RUN for each in chosen):,} of {len(rows):,}", class_="number"),
        _share(found.chosen, f"{found.chosen.value:.0%}"),
        _share(found.random, f"{found.random.value:.0%}"),
        _share(found.difference, signed(100 * found.difference.value, 0), " better" if better else ""),
    ]
    return tag("tr", tag("th", name, scope="row"), cells)


def _random(row: Row, place: int) -> Any:
    """The classes without random words beside one set."""
    return np.reshape(row["random_classes"], (len(row["classes"]), -1))[place]


def _share(found: Interval, text: str, kind: str = "") -> Safe:
    ends = f"[{number(100 * found.low, 0)}, {number(100 * found.high, 0)}]" if np.isfinite(found.low) else ""
    return tag("td", tag("div", tag("b", text)), tag("small", ends), class_=f"number{kind}")


def _examples(pair: ExplainedPair, data: Texts, shown: Collection[int], opened: bool) -> Child:
    """The errors that the model was surest of, explained for both classes."""
    place = {row["item_id"]: index for index, row in enumerate(data.examples)}
    told = [row for row in pair.rows if place[row["item_id"]] in shown]
    sure = sorted(told, key=lambda row: -_probability(data, row, "predicted"))[:SHOWN]
    if not sure:
        return None
    cards = [tag("li", _card(pair, row, data, place[row["item_id"]]), class_="card") for row in sure]
    summary = f"{_errors(len(sure))} explained for both classes, the surest first"
    hint = "Each line has a scale of its own: orange speaks for what is named on the left, blue against it."
    listed = tag("ol", cards, class_="cards")
    return tag("details", tag("summary", summary), tag("p", hint, class_="hint"), listed, open=opened)


def _probability(data: Texts, row: Row, which: str) -> float:
    return float(data.predictions[row["item_id"]]["probabilities"][row[which]])


def _card(pair: ExplainedPair, row: Row, data: Texts, index: int) -> Iterator[Child]:
    names = {"gold": pair.gold, "predicted": pair.predicted}
    chances = [
        tag("span", f"{name} ", tag("b", number(_probability(data, row, which)))) for which, name in names.items()
    ]
    without = _without(pair, row)
    yield tag("div", tag("b", f"#{data.examples[index]['row_index']}"), chances, without, class_="facts")
    lines = {
        f"for {pair.predicted}": row["predicted_scores"],
        f"for {pair.gold}": row["gold_scores"],
        f"{pair.predicted} against {pair.gold}": row["contrast_scores"],
    }
    pieces = data.pieces[index]
    body = [
        tag("tr", tag("th", name, scope="row"), tag("td", Safe(html_fragment(pieces, scores))))
        for name, scores in lines.items()
    ]
    yield tag("table", tag("tbody", body), class_="versus")


def _without(pair: ExplainedPair, row: Row) -> Safe | None:
    """The fewest of its own strongest words without which it is right; None where no word was taken away."""
    own = list(zip(row["sets"][:-1], row["classes"], strict=False))
    right = [len(words) for words, found in own if found == row["gold"]]
    if all(found == NOT_RUN for _, found in own):
        return None
    if not right:
        return tag("span", "wrong without its strongest words, too")
    return tag(
        "span", f"{pair.gold} without its {'strongest word' if min(right) == 1 else f'{min(right)} strongest words'}"
    )
